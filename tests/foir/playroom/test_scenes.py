"""Composed scenes: deterministic, exactly annotated, splits that share nothing."""

from pathlib import Path

import numpy as np
import pytest

from foir import masks
from foir.index import Index
from foir.playroom import SPLITS, compose, sprites

ASSETS = Path(__file__).parents[3] / "foir" / "assets" / "playroom"


@pytest.fixture(scope="module")
def scenes():
    return [compose("gallery", number, size=(320, 240)) for number in range(12)]


def test_the_same_number_gives_the_same_scene():
    one, two = compose("held-out", 3, size=(320, 240)), compose("held-out", 3, size=(320, 240))
    assert one.image.tobytes() == two.image.tobytes()
    assert [thing.box for thing in one.objects] == [thing.box for thing in two.objects]
    assert one.caption == two.caption


def test_splits_and_numbers_give_different_scenes():
    pictures = [compose(split, 5, size=(160, 120)).image.tobytes() for split in SPLITS]
    pictures.append(compose("gallery", 6, size=(160, 120)).image.tobytes())
    assert len(set(pictures)) == len(SPLITS) + 1


def test_boxes_are_the_bounds_of_masks_and_masks_do_not_overlap(scenes):
    for scene in scenes:
        assert 1 <= len(scene.objects) <= 12
        covered = np.zeros((240, 320), int)
        for thing in scene.objects:
            rows, cols = np.nonzero(thing.mask)
            assert thing.box == (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1)
            assert thing.share == pytest.approx(thing.mask.sum() / (320 * 240))
            covered += thing.mask
        assert covered.max() <= 1


def test_a_mask_covers_the_thing_that_was_drawn():
    """Where no mask is, taking the things away changes nothing but shadows; where one is, it changes much."""
    with_things = compose("gallery", 11, size=(320, 240))
    pixels = np.asarray(with_things.image, float)
    everything = np.any([thing.mask for thing in with_things.objects], axis=0)
    edges = np.abs(np.diff(pixels, axis=1)).sum(2)
    assert edges[everything[:, 1:]].mean() > 1.5 * edges[~everything[:, 1:]].mean()


def test_captions_name_every_thing(scenes):
    for scene in scenes:
        for thing in scene.objects:
            assert thing.sprite.name.lower() in scene.caption.lower()
        assert scene.caption.endswith(".")


def test_training_scenes_hold_no_sprite_that_is_kept_for_needles():
    kept = {sprite.code for sprite in sprites() if sprite.held_out}
    assert 0.1 < len(kept) / len(sprites()) < 0.3
    trained_on = {thing.sprite.code for n in range(60) for thing in compose("train", n, size=(160, 120)).objects}
    assert trained_on
    assert not trained_on & kept
    assert kept & {thing.sprite.code for n in range(60) for thing in compose("gallery", n, size=(160, 120)).objects}


@pytest.mark.parametrize("share", [0.005, 0.02])
def test_needles_cover_what_was_asked(share):
    needle = next(sprite for sprite in sprites() if sprite.held_out)
    for number in range(4):
        scene = compose("needles", number, size=(1024, 1024), needle=(needle, share))
        (found,) = [t for t in scene.objects if t.sprite is needle and abs(t.share - share) < 0.35 * share]
        assert found.mask.shape == (1024, 1024)


def test_every_sprite_can_be_seen_and_sheets_stay_small():
    assert len(sprites()) > 450
    assert sum(path.stat().st_size for path in (ASSETS / "sprites").glob("*.webp")) < 6e6
    for sprite in sprites()[::9]:
        picture = sprite.image()
        assert min(picture.size) > 20
        assert 0.3 < sprite.size < 2


def test_the_committed_gallery_is_what_compose_gives():
    index = Index.open(ASSETS)
    assert len(index) == 600
    assert index.space("image").z
    for number in (0, 299, 599):
        item = index.item(number)
        scene = compose("gallery", number)
        assert item.caption == scene.caption
        assert (item.width, item.height) == scene.image.size
        known = index.objects(item.id)
        assert [thing.box for thing in known] == [tuple(map(float, thing.box)) for thing in scene.objects]
        assert [thing.name for thing in known] == [thing.sprite.name for thing in scene.objects]
        for thing, drawn in zip(known, scene.objects, strict=True):
            assert thing.mask is not None
            assert np.array_equal(masks.decode(thing.mask, scene.image.size), drawn.mask)
        assert index.thumb(item).stat().st_size < 80_000


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_bring_a_mask_back(seed):
    random = np.random.default_rng(seed)
    mask = random.random((int(random.integers(1, 30)), int(random.integers(1, 30)))) < random.random()
    assert np.array_equal(masks.decode(masks.encode(mask), mask.shape[::-1]), mask)


def test_run_lengths_are_cocos():
    assert masks.encode(np.array([[0, 1], [0, 1], [1, 0]], bool)) == "2 3 1"
    assert masks.encode(np.ones((2, 2), bool)) == "0 4"
    with pytest.raises(ValueError, match="fill"):
        masks.decode("3 3", (2, 2))

"""Held-out toys on composed scenes: sizes, counts and instances."""

import numpy as np

from eval import datasets
from eval.datasets.base import InstanceDataset
from foir.playroom import compose, sprites


def test_needles_were_never_trained_on_and_each_lies_on_one_scene_of_each_size():
    data = datasets.load("needles-playroom", InstanceDataset)
    held = {sprite.code for sprite in sprites() if sprite.held_out}
    asked = {query.instance for query in data.queries}
    assert asked <= held and len(asked) == 24
    for instance in asked:
        on = [one.areas[instance] or 0 for one in data.scenes if instance in one.areas]
        assert sorted(on) == [0.005, 0.01, 0.02, 0.05]
    assert {one.count for one in data.scenes} == {1, 2, 3, 4, 6, 8, 12, 30}


def test_a_needle_covers_what_it_says_and_its_scene_holds_no_other():
    data = datasets.load("needles-playroom", InstanceDataset)
    for number in (0, 5):
        one = data.scenes[number]
        things, image = one.objects(), one.load()
        shares = [np.asarray(thing.mask).mean() for thing in things]
        (said,) = (share for share in one.areas.values() if share)
        assert min(abs(share - said) for share in shares) < 0.15 * said
        assert len(things) <= one.count and image.size == (640, 480)
    code = next(iter(data.scenes[3].areas))
    sprite = next(sprite for sprite in sprites() if sprite.code == code)
    on = compose("needles", 3, objects=data.scenes[3].count - 1, needle=(sprite, 0.05)).objects
    assert [thing.sprite.code for thing in on if thing.sprite.held_out] == [code]
    assert datasets.load("needles-playroom-320", InstanceDataset).scenes[0].load().size == (320, 240)

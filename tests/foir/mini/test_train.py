"""A small training runs through; one that was killed gives the same bytes, and the next goes on from them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from foir import Unavailable, encoders
from foir.mini import captioner, train, weights
from foir.mini.training import adapters
from foir.mini.training.captions import CaptionSettings
from foir.mini.training.photos import BoxedPhotos, Photos
from foir.mini.training.proposals import ProposalSettings
from foir.mini.training.stage import Stage
from foir.mini.training.trainer import Settings
from foir.segment import regions
from foir.segment.regions import RegionProposer
from tests.conftest import iou, scene

TINY = Settings(steps_an_hour=3, photos=4, captions=2, collages=1, scenes=2, boxed=2)
FACTS = {"photos": "7"}


@pytest.fixture
def small(flickr, voc, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr("foir.mini.training.collages._cuts", lambda rng: (0, 100, 224))  # seven photos are no nine
    photos = Photos.read(flickr)
    rows = photos.rows["train"]
    return [photos.captions[row] for row in rows], train.training_data(
        photos, rows, BoxedPhotos.read(voc), 4, tmp_path / "work"
    )


def test_a_killed_training_gives_the_bytes_of_an_unbroken_one(small, tmp_path, capsys):
    captions, data = small
    files = []
    for name, stop in (("whole", None), ("killed", 1)):
        stage = Stage(tmp_path / name, tmp_path / f"work-{name}", 1, 3, weights.FILE, FACTS, stop)
        stage.work.mkdir()
        if stop:
            assert not train.train_towers(TINY, data, stage)
        assert train.train_towers(TINY, data, replace(stage, stop_after=None))
        files.append(stage.out / weights.FILE.name)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].stat().st_size < 40e6
    *_, stage = json.loads(weights.training_facts(files[0])["stages"])
    assert (stage["steps"], stage["seed"], stage["photos"]) == (3, 3, 4)
    tower, revision = weights.load_image_tower(files[0])
    pixels = encoders.load("mini", device="cpu").pixels([scene(0)])
    with torch.inference_mode():
        own, shipped = (
            each.finish(each.prefix(pixels)).vectors
            for each in (tower.as_encoder("x"), encoders.load("mini", device="cpu"))
        )
    assert 0.5 < float((own * shipped).sum()) < 0.99999  # it moved, from where foir is

    again = Stage(tmp_path / "next", tmp_path, 0.3, 4, files[0], FACTS)
    assert train.train_towers(replace(TINY, boxed_weight=0.0), data, again)
    stages = json.loads(weights.training_facts(tmp_path / "next" / weights.FILE.name)["stages"])
    assert [each["steps"] for each in stages[-2:]] == [3, 1]

    settings = CaptionSettings(steps_an_hour=2, photos=4, scenes=2, scene_pool=4)
    stage = Stage(files[0].parent, tmp_path, 1, facts=FACTS)
    train.train_captions(settings, data, captions, stage, half=True)
    with safe_open(files[0].parent / captioner.FILE.name, "pt") as opened:
        assert json.loads(opened.metadata()["captioner"])["facts"]["towers"] == revision
    assert captioner.load(files[0].parent / captioner.FILE.name).words


def test_a_box_head_is_trained_on_the_towers_of_its_folder_and_is_theirs_alone(voc, tmp_path):
    photos = BoxedPhotos.read(voc)
    (tmp_path / weights.FILE.name).write_bytes(weights.FILE.read_bytes())
    settings = ProposalSettings(steps_an_hour=40, scenes=1, mosaics=1, patches=1024)
    files = []
    for work in ("one", "two"):
        stage = Stage(tmp_path, tmp_path / work, 1, facts=FACTS)
        stage.work.mkdir()
        train.train_proposals(settings, photos, stage, half=False)
        files.append((tmp_path / regions.FILE.name).read_bytes())
    assert files[0] == files[1] and len(files[0]) < 2e6
    encoder = encoders.load("mini", device="cpu")
    found = RegionProposer(encoder, tmp_path / regions.FILE.name)(photos.image(0)).top()
    assert max(float(iou(np.array([16.0, 4.8, 48, 43.2]) * 1.25, np.array([each.box])).max()) for each in found) > 0.3
    with pytest.raises(Unavailable, match="other weights of mini"):
        RegionProposer(replace(encoder, revision="another"), tmp_path / regions.FILE.name)


def test_a_tower_to_train_starts_as_the_one_it_goes_on_from():
    pixels = encoders.load("mini", device="cpu").pixels([scene(1)])
    known = encoders.load("mini", device="cpu")
    start = adapters.trainable_tower(weights.FILE)
    encoder = start.as_encoder("x")
    theirs, ours = (each.finish(each.prefix(pixels)).vectors for each in (known, encoder))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
    names = adapters.trained_parameters(start)
    lora = {name for name in names if name.endswith((weights.DOWN, weights.UP))}
    assert {name.split(".")[3] for name in lora} == {str(i) for i in range(adapters.WHOLE_FROM)}
    whole = {name.split(".")[3] for name in set(names) - lora if name.startswith("model.encoder")}
    assert whole == {str(i) for i in range(adapters.WHOLE_FROM, 12)}


def test_the_command_trains_towers_and_then_a_captioner(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    places = ["--hours", "0.0001", "--scenes", "4", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    assert train.main([*places, "--choose", "--without-voc"]) == 0
    facts = weights.training_facts(tmp_path / "out" / weights.FILE.name)
    assert (facts["photos"], facts["command"]) == ("8", "python -m foir.mini.train towers --hours 0.0001 --choose")
    assert train.main(["captioner", *places]) == 0
    assert captioner.load(tmp_path / "out" / captioner.FILE.name).words
    capsys.readouterr()
    assert facts["boxed"] == "0" and facts["start"] == weights.read_trained()[1]
    assert train.main([*places, "--choose", "--without-voc", "--fresh"]) == 1  # the checkpoint is of another start
    assert "delete it" in capsys.readouterr().err


def test_early_blocks_of_another_form_are_refused(tmp_path):
    found, head = weights.read_trained()[0], weights.load_text_head()
    name = "model.encoder.layer.1.mlp.fc1"
    update = {f"{name}.down.weight": torch.zeros(3, 384), f"{name}.up.weight": torch.zeros(1536, 3)}
    weights.save({**found, **update}, head, {}, tmp_path / "other.safetensors")
    assert weights.load_image_tower(tmp_path / "other.safetensors")
    with pytest.raises(Unavailable, match="other early blocks"):
        adapters.trainable_tower(tmp_path / "other.safetensors")


def test_training_without_photos_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    assert train.main(["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]) == 1
    assert str(tmp_path / "flickr8k") in capsys.readouterr().err

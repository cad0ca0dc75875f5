"""A small training runs through, and again with the same result."""

import json
from dataclasses import replace

import torch
from safetensors import safe_open

from foir.mini import captioner, train, weights
from foir.mini.training.trainer import Settings

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

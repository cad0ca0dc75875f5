"""A detector's boxes: which photo they are on, and damage."""

import json

import pytest

from eval.datasets.detections import read_detections
from foir import Unavailable


def test_photos_are_named_or_numbered(tmp_path):
    path = tmp_path / "boxes.json"
    names = ["COCO_val2014_000000000007", "COCO_val2014_000000000008"]
    ids = [(7, 0.3), ("8", 0.29), (names[1], 0.9), (9, 0.9)]
    path.write_text(json.dumps([{"image_id": i, "bbox": [1, 2, 10, 5], "score": score} for i, score in ids]))
    boxes, detector = read_detections(path, names)
    assert boxes == {names[0]: ((1, 2, 11, 7),), names[1]: ((1, 2, 11, 7),)} and detector == "unnamed"
    with pytest.raises(Unavailable, match="None of the boxes"):
        read_detections(path, ["COCO_val2014_000000000010"])


@pytest.mark.parametrize(
    ("content", "message"), [('[{"image', "is damaged"), ('{"a": 1}', "no list"), ("[1]", "no list")]
)
def test_damage_is_one_sentence(content, message, tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(Unavailable, match=message):
        read_detections(path, ["7"])

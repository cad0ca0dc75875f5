"""Loading SAM, and the choice of a segmenter."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from foir import Prompt, Unavailable, segment
from foir.patches import rasterise
from tests.conftest import scene
from tests.foir.segment.conftest import small_sam

BOX = (30.0, 20.0, 90.0, 80.0)


def test_other_weights_than_sams_are_one_sentence(tmp_path, monkeypatch):
    path = tmp_path / "sam_vit_b_made.pth"
    monkeypatch.setenv("FOIR_SAM", str(path))
    with pytest.raises(Unavailable, match="not a checkpoint"):
        segment.load_sam()
    path.write_bytes(b"junk")
    with pytest.raises(Unavailable, match="not a checkpoint of SAM vit_b"):
        segment.load_sam()
    monkeypatch.setenv("FOIR_SAM", str(tmp_path / "other.pth"))
    with pytest.raises(Unavailable, match="does not say which"):
        segment.load_sam()


@pytest.mark.parametrize("change", ["removed", "added", "misshaped", "nested"])
def test_a_checkpoint_of_another_model_names_its_tensors(change, checkpoint, tmp_path, monkeypatch):
    path, name = tmp_path / "sam_vit_b_made.pth", "mask_decoder.iou_token.weight"
    state: dict[str, Any] = dict(checkpoint.model.state_dict())
    if change == "removed":
        del state[name]
    elif change == "misshaped":
        state[name] = state[name][:, :1]
    elif change == "nested":
        state = {"model": state}
    else:
        state["adapter.weight"] = torch.zeros(3)
    torch.save(state, path)
    monkeypatch.setattr("segment_anything.sam_model_registry", {"vit_b": lambda: small_sam(9)})
    monkeypatch.setenv("FOIR_SAM", str(path))
    named = {"added": "unexpected: adapter.weight", "nested": "unexpected: model"}.get(change, name)
    with pytest.raises(Unavailable, match=f"not a checkpoint of SAM vit_b .*{named}"):
        segment.load_sam()


def test_a_checkpoint_file_is_opened_by_its_name(checkpoint, tmp_path, monkeypatch):
    path = tmp_path / "sam_vit_b_made.pth"
    torch.save(checkpoint.model.state_dict(), path)
    fresh = small_sam(9)
    monkeypatch.setattr("segment_anything.sam_model_registry", {"vit_b": lambda: fresh})
    monkeypatch.setenv("FOIR_SAM", str(path))
    anything: Any = SimpleNamespace(device="cpu")
    opened = segment.load_segmenter(anything)
    mask = rasterise(Prompt.box(*BOX), (160, 120), (8, 8))
    expected = checkpoint.outline(scene(0))(Prompt.box(*BOX), mask)
    assert np.array_equal(opened(scene(0))(Prompt.box(*BOX), mask), expected)

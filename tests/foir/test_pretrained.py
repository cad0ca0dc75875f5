"""Weights that are not a model's: each family refuses them in one sentence that names the tensors."""

import warnings
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Blip2ForConditionalGeneration,
    Blip2ForImageTextRetrieval,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Owlv2Config,
    Owlv2ForObjectDetection,
    SamConfig,
    SamModel,
    SiglipConfig,
    SiglipModel,
)

from foir import Unavailable, encoders, hub
from foir.encoders import openclip
from foir.image_text import blip2, clip
from foir.pretrained import load_pretrained, read_tensors
from foir.segment import sam
from foir.small_objects import detect
from tests import lookalikes

VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2, "patch_size": 14,
    "image_size": 56, "projection_dim": 16,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 99,
    "max_position_embeddings": 16, "projection_dim": 16, "projection_size": 32,
}  # fmt: skip
SAM = SamConfig(
    vision_config={
        "hidden_size": 32, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64,
        "patch_size": 16, "window_size": 2, "global_attn_indexes": [1], "mlp_dim": 32, "num_pos_feats": 8,
    },
    prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
    mask_decoder_config={
        "hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16, "num_hidden_layers": 1,
    },
)  # fmt: skip


def whole_clip():
    return CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16))


def small_dinov2():
    return Dinov2Model(Dinov2Config(**{**VISION, "image_size": 518}))


IMAGE_SIDE: Any = SimpleNamespace(
    name="clip-base-projected", revision="c0ffee", device="cpu", grid=(4, 4), first_patch=1
)
FAMILIES = {  # a whole checkpoint, the loader, one of the tensors that it needs
    "dinov2": (small_dinov2, lambda: encoders.load("dinov2-small", device="cpu"), "layernorm.weight"),
    "clip": (whole_clip, lambda: encoders.load("clip-base", device="cpu"), "visual_projection.weight"),
    "clip text": (whole_clip, lambda: clip.build(IMAGE_SIDE), "text_projection.weight"),
    "siglip": (
        lambda: SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)),
        lambda: encoders.load("siglip-base", device="cpu"),
        "vision_model.head.probe",
    ),
    "blip2": (
        lambda: lookalikes.blip2(Blip2ForImageTextRetrieval),
        lambda: blip2.build("blip2", None, "cpu", "float32", True),
        "query_tokens",
    ),
    "blip2-captions": (
        lambda: lookalikes.blip2(Blip2ForConditionalGeneration),
        lambda: blip2.build_captions("blip2-captions", None, "cpu", "float32", True),
        "language_projection.weight",
    ),
    "owl": (
        lambda: Owlv2ForObjectDetection(Owlv2Config(text_config=TEXT, vision_config=VISION, projection_dim=16)),
        lambda: detect.load(encoders.load("toy", device="cpu")),
        "class_head.logit_shift.weight",
    ),
    "sam": (lambda: SamModel(SAM), lambda: sam.load("facebook/sam-vit-huge", "cpu"), "mask_decoder.iou_token.weight"),
}
TENSORS = "model.safetensors"


@pytest.fixture(params=FAMILIES)
def family(request, tmp_path, monkeypatch):
    """Folder of a checkpoint on disk, its loader, a tensor that the model needs."""
    model, load, needed = FAMILIES[request.param]
    model().save_pretrained(tmp_path)
    monkeypatch.setattr(hub, "download_weights", lambda *args, **options: (tmp_path, "c0ffee"))
    monkeypatch.setattr("foir.segment.load_sam", lambda device: None)
    for name in ("AutoTokenizer", "CLIPTokenizer", "SamImageProcessor", "Owlv2ImageProcessor"):
        monkeypatch.setattr(f"transformers.{name}.from_pretrained", lambda *args, **options: None)
    return tmp_path, load, needed


def rewrite(folder, change):
    """Apply a change to the tensors of a checkpoint."""
    tensors = load_file(folder / TENSORS)
    change(tensors)
    save_file(tensors, folder / TENSORS, {"format": "pt"})


def test_a_whole_checkpoint_loads_without_a_word(family, capfd):
    folder, load, _ = family
    rewrite(folder, lambda tensors: tensors.update({"text_model.embeddings.position_ids": torch.arange(16)}))
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load()
    assert "MISSING" not in (err := capfd.readouterr().err) and "UNEXPECTED" not in err


@pytest.mark.parametrize("change", ["removed", "renamed", "added", "misshaped"])
def test_tensors_of_another_model_are_one_sentence_that_names_them(family, change):
    folder, load, needed = family
    changes = {
        "removed": lambda tensors: tensors.pop(needed),
        "renamed": lambda tensors: tensors.update({f"my.{needed}": tensors.pop(needed)}),
        "added": lambda tensors: tensors.update({"adapter.weight": torch.zeros(3)}),
        "misshaped": lambda tensors: tensors.update({needed: torch.zeros(*tensors[needed].shape, 2)}),
    }
    rewrite(folder, changes[change])
    with pytest.raises(Unavailable) as caught:
        load()
    message = str(caught.value)
    named = {"added": "unexpected: adapter.weight", "misshaped": "of another shape: "}.get(change, "missing: ")
    tail = needed.removeprefix("vision_model.")  # transformers gives some towers other names
    assert named in message and (change == "added" or tail in message) and "\n" not in message


def test_weights_of_another_architecture_are_refused(tmp_path):
    small_dinov2().save_pretrained(tmp_path)
    with pytest.raises(Unavailable, match=r"do not fit SamModel .* more"):
        load_pretrained(SamModel, tmp_path)


@pytest.mark.parametrize("file", ["config.json", TENSORS])
def test_damaged_files_are_one_sentence(tmp_path, file):
    small_dinov2().save_pretrained(tmp_path)
    (tmp_path / file).write_bytes(b"\x00junk")
    with pytest.raises(Unavailable, match="do not fit Dinov2Model"):
        load_pretrained(Dinov2Model, tmp_path)


def test_a_tensor_that_only_training_uses_may_be_missing(tmp_path, monkeypatch):
    small_dinov2().save_pretrained(tmp_path)
    rewrite(tmp_path, lambda tensors: tensors.pop("embeddings.mask_token"))
    monkeypatch.setattr(hub, "download_weights", lambda *args, **options: (tmp_path, "c0ffee"))
    assert encoders.load("dinov2-small", device="cpu").revision == "c0ffee"


def test_open_clips_weights_are_refused_by_the_names_of_their_tensors(tmp_path, monkeypatch):
    tower = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 8, "vocab_size": 99, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": tower, "text_cfg": text}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    weights = openclip.create_model("tiny", None).state_dict()
    torch.save(weights, tmp_path / "whole.pt")
    assert openclip.create_model("tiny", str(tmp_path / "whole.pt")) is not None
    del weights["visual.proj"]
    torch.save(weights, tmp_path / "part.pt")
    with pytest.raises(Unavailable, match="do not fit CLIP: Missing.*visual.proj"):
        openclip.create_model("tiny", str(tmp_path / "part.pt"))
    with pytest.raises(Unavailable, match="cannot be fetched"):
        openclip.create_model("tiny", str(tmp_path / "absent.pt"))


def test_tensors_are_read_from_every_shard_of_either_kind(tmp_path):
    made = {"a": torch.ones(2), "b": torch.zeros(3, dtype=torch.bfloat16)}
    for number, (name, tensor) in enumerate(made.items()):
        torch.save({name: tensor}, tmp_path / f"pytorch_model-{number}.bin")
    found = read_tensors(tmp_path)
    assert found.keys() == made.keys() and all(torch.equal(found[name], made[name]) for name in made)
    save_file({"c": torch.ones(1)}, tmp_path / "model.safetensors")
    assert read_tensors(tmp_path).keys() == {"c"}
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model-0.bin").write_bytes(b"torn")
    with pytest.raises(Unavailable, match="pytorch_model-0.bin cannot be read"):
        read_tensors(tmp_path)

"""The image tower, and the file of the trained parts."""

from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model

from foir import Unavailable, encoders
from foir.mini import captioner, text_encoder, weights
from tests.conftest import scene


def test_the_modules_are_transformers_dinov2_with_twelve_heads_in_the_last_block():
    tower = weights.ImageTower()
    tower.merge_lora()
    encoder = tower.as_encoder("made")
    pixels = encoder.pixels([scene(0), scene(1)])
    config = Dinov2Config(hidden_size=384, num_attention_heads=6, num_hidden_layers=12, patch_size=14, image_size=224)
    library = Dinov2Model(config).eval()
    library.load_state_dict(tower.model.state_dict() | {"embeddings.mask_token": torch.zeros(1, 384)})
    attention: Any = library.encoder.layer[-1].attention
    attention.num_attention_heads, attention.head_dim, attention.scaling = 12, 32, 32**-0.5
    with torch.inference_mode():
        theirs = tower.project(library(pixels).last_hidden_state[:, 0])
    ours = encoder.finish(encoder.prefix(pixels)).vectors
    assert encoder.heads == 12
    torch.testing.assert_close(ours, torch.nn.functional.normalize(theirs, dim=-1), atol=1e-5, rtol=1e-5)


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


def test_the_shipped_parts_are_small_and_say_how_they_were_made():
    assert weights.FILE.stat().st_size + captioner.FILE.stat().st_size < 16e6
    facts = weights.training_facts()
    assert facts["photos"] == "7091" and facts["command"].startswith("python -m foir.mini.train")
    assert len(facts["lists"]) == 64


@pytest.mark.parametrize("change", ["removed", "added", "misshaped"])
@pytest.mark.parametrize(
    ("read", "name"),
    [
        (weights.load_image_tower, "image.project.bias"),
        (weights.load_text_head, "text.weigh.bias"),
        (captioner.load, "pooler.norm_keys.bias"),
    ],
)
def test_other_tensors_than_minis_are_one_sentence_that_names_them(read, name, change, tmp_path):
    source = captioner.FILE if read is captioner.load else weights.FILE
    with safe_open(source, "pt") as opened:
        tensors, facts = {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata()  # noqa: SIM118
    changed = {"removed": name, "added": f"{name}.more", "misshaped": name}[change]
    if change == "removed":
        del tensors[name]
    else:
        tensors[changed] = tensors[name][:1].clone()  # one number, which could be broadcast
    save_file(tensors, tmp_path / "part.safetensors", facts)
    with pytest.raises(
        Unavailable, match=f"is not of this foir .*{changed.removeprefix('image.').removeprefix('text.')}"
    ):
        read(tmp_path / "part.safetensors")

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


def test_low_rank_updates_are_added_to_the_weights_they_are_of(tower):
    name = "model.encoder.layer.2.mlp.fc1"
    down, up = torch.randn(5, 384) * 0.1, torch.randn(1536, 5) * 0.1
    changed = weights.ImageTower()
    before = changed.state_dict()[f"{name}.weight"].clone()
    last = {key: value.clone() for key, value in tower.state_dict().items() if key.startswith(weights.ALWAYS_TRAINED)}
    changed.apply_trained({**last, f"{name}.down.weight": down, f"{name}.up.weight": up}, "It fits not")
    torch.testing.assert_close(changed.state_dict()[f"{name}.weight"], before + up @ down)
    torch.testing.assert_close(changed.state_dict()["project.weight"], last["project.weight"])
    for wrong in ({f"{name}.down.weight": down}, {"model.no.down.weight": down, "model.no.up.weight": up}):
        with pytest.raises(Unavailable, match="It fits not"):
            changed.apply_trained({**last, **wrong}, "It fits not")
    with pytest.raises(Unavailable, match="missing"):
        changed.apply_trained({}, "It fits not")


def test_towers_survive_being_written(tower, tmp_path):
    head = text_encoder.TextHead(weights.DIM).eval()
    file = tmp_path / "towers.safetensors"
    trained = {n: p for n, p in tower.state_dict().items() if n.startswith(weights.ALWAYS_TRAINED)}
    weights.save(trained, head, {"seed": "7"}, file)
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
    weights.save(trained, head, {"seed": "8"}, file)
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
    assert sum(file.stat().st_size for file in weights.FILE.parent.iterdir()) < 40e6
    facts = weights.training_facts()
    assert facts["photos"] == "6091" and facts["command"].startswith("python -m foir.mini.train")
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

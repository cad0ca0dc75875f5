"""Weights: cached, reachable, gated or missing, and the command that gets them."""

import json

import pytest

from eval.preflight.weights import HubState, detector_needs, model_needs, repository, revision
from foir import Unavailable, image_text
from tests.eval.preflight.conftest import COMMIT, cache_weights
from tests.standin_hub import hub

__all__ = ["hub"]
DINOV2, INTERNVL = "facebook/dinov2-with-registers-small", "OpenGVLab/InternVL-14B-224px"


@pytest.mark.parametrize(
    ("name", "repo"),
    [
        ("dinov2-small-reg", DINOV2),
        ("clip-base-projected", "openai/clip-vit-base-patch16"),
        ("siglip-base", "google/siglip-base-patch16-384"),
        ("blip2", "Salesforce/blip2-itm-vit-g-coco"),
        ("coca", "laion/mscoco_finetuned_CoCa-ViT-L-14-laion2B-s13B-b90k"),
        ("openclip:ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        ("internvl-g", INTERNVL),
        ("mini", ""),
    ],
)
def test_every_family_names_its_repository(name, repo):
    assert repository(name) == repo


def test_every_standalone_model_names_its_weights():
    assert all(repository(name) for name, entry in image_text.models().items() if entry.standalone)


def test_absent_weights_come_with_their_command(empty_machine):
    (need,) = model_needs("dinov2-small-reg", HubState())
    assert (need.what, need.source) == (DINOV2, f"hf download {DINOV2}")
    assert revision("dinov2-small-reg", HubState()) == ""
    owl, sam = detector_needs("dinov2-small-reg", HubState())
    assert owl.source == "hf download google/owlv2-base-patch16-ensemble" and sam.rows == "detected boxes"
    assert detector_needs("mini", HubState()) == [] == model_needs("mini", HubState())


def test_cached_weights_need_all_their_files(empty_machine):
    snapshot = cache_weights(empty_machine / "hub", DINOV2, ("config.json",))
    assert model_needs("dinov2-small-reg", HubState())
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    (snapshot / "model-1.safetensors").write_bytes(b"")
    assert model_needs("dinov2-small-reg", HubState())
    (snapshot / "model-2.safetensors").write_bytes(b"")
    assert model_needs("dinov2-small-reg", HubState()) == []
    assert revision("dinov2-small-reg", HubState()) == COMMIT


def test_code_of_its_own_needs_leave(empty_machine, monkeypatch):
    cache_weights(empty_machine / "hub", INTERNVL)
    (need,) = model_needs("internvl-g", HubState())
    assert "FOIR_REMOTE_CODE=1" in need.source and "--revision COMMIT" in need.source
    monkeypatch.setenv("FOIR_REMOTE_CODE", "1")
    assert model_needs("internvl-g", HubState())  # no commit is named
    assert model_needs("internvl-g", HubState(COMMIT)) == []
    assert (revision("internvl-g", HubState(COMMIT)), revision("internvl-g", HubState("main"))) == (COMMIT, "")


def test_sam_may_be_a_file(empty_machine, monkeypatch):
    cache_weights(empty_machine / "hub", "google/owlv2-base-patch16-ensemble")
    monkeypatch.setenv("FOIR_SAM", str(empty_machine / "sam_vit_b.pth"))
    (need,) = detector_needs("siglip-base", HubState())
    assert need.what.endswith("sam_vit_b.pth") and "FOIR_SAM" in need.source
    (empty_machine / "sam_vit_b.pth").write_bytes(b"")
    assert detector_needs("siglip-base", HubState()) == []


def test_weights_that_can_be_fetched_are_not_missing(hub):
    hub.add(DINOV2, {"config.json": b"{}"})
    hub.add("facebook/dinov2-base", {"config.json": b"{}"})
    hub.gated.add("facebook/dinov2-base")
    state = HubState()
    assert model_needs("dinov2-small-reg", state) == []
    (gated,) = model_needs("dinov2-base", state)
    (absent,) = model_needs("dinov2-large", state)
    assert gated.source.startswith("Ask for access on https://huggingface.co/facebook/dinov2-base, set HF_TOKEN")
    assert "does not exist or is private" in absent.source


def test_a_hub_that_does_not_answer_is_asked_once(hub):
    hub.fail(500, 100)
    state = HubState()
    assert model_needs("dinov2-small-reg", state)
    asked = len(hub.requests)
    assert asked and model_needs("clip-base", state) and len(hub.requests) == asked


def test_an_unknown_model_is_one_sentence():
    with pytest.raises(Unavailable, match="no encoder 'nothing'"):
        model_needs("nothing", HubState())

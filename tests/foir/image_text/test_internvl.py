"""InternVL-G from its repository: code that brings no `post_init`, weights in shards, texts padded on the right."""

import copy
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir import Unavailable, image_text
from foir.image_text.internvl import PROMPT
from tests.foir.image_text import internvl_repository
from tests.foir.image_text.internvl_repository import COMMIT, NEEDS_PUBLIC
from tests.foir.image_text.opened import pixels_of

TEXTS = ["a dog", "two cats on a mat"]


@pytest.fixture(scope="module", params=["own", pytest.param("public", marks=NEEDS_PUBLIC)])
def repository(request, tmp_path_factory):
    """Its cache, and the model whose weights it has."""
    folder = tmp_path_factory.mktemp("hub")
    with internvl_repository.cached(folder, public=request.param == "public") as model:
        yield folder, model


def test_it_is_the_model_of_its_own_code(repository, pictures):
    _, model = repository
    loaded = image_text.load("internvl-g", revision=COMMIT, device="cpu")
    assert (loaded.name, loaded.revision, loaded.grid) == ("internvl-g", COMMIT, (4, 4))
    with torch.inference_mode():
        theirs = F.normalize(model.encode_image(pixels_of("internvl", pictures), mode="InternVL-G"), dim=-1)
    tokens = loaded.encode_images(pictures)
    assert torch.equal(loaded.image_vectors(tokens)[:, 0], theirs)


def test_in_bfloat16_it_is_as_its_code_computes_it(repository, pictures):
    _, model = repository
    loaded = image_text.load("internvl-g", revision=COMMIT, device="cpu", dtype="bfloat16")
    pixels = pixels_of("internvl", pictures).bfloat16()
    with torch.inference_mode():
        theirs = copy.deepcopy(model).bfloat16().encode_image(pixels, mode="InternVL-G").float()
    assert torch.equal(loaded.image_vectors(loaded.encode_images(pictures))[:, 0], F.normalize(theirs, dim=-1))


def test_texts_end_in_front_of_their_padding(repository):
    """`encode_text` reads the vector at the number of ids above 0: with padding on the left it is another word's."""
    _, model = repository
    loaded = image_text.load("internvl-g", revision=COMMIT, device="cpu")
    words = internvl_repository.WORDS
    for text, vector in zip(TEXTS, loaded.encode_texts(TEXTS).vectors, strict=True):
        ids = [1, *(words.index(letter) for letter in f" {PROMPT}{text}".replace(" ", "\u2581")), 2]
        with torch.inference_mode():
            theirs = F.normalize(model.encode_text(torch.tensor([ids])), dim=-1)[0]
        torch.testing.assert_close(torch.from_numpy(vector), theirs, rtol=1e-5, atol=1e-6)


def test_other_weights_are_refused_by_name(repository, tmp_path, monkeypatch):
    folder, _ = repository
    shutil.copytree(folder, tmp_path / "hub", symlinks=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    shard = next((tmp_path / "hub").rglob("model-00002*"))
    tensors = load_file(shard)
    del tensors["text_projection"]
    save_file({**tensors, "stranger": torch.zeros(1)}, shard)
    with pytest.raises(Unavailable, match="missing: text_projection; unexpected: stranger"):
        image_text.load("internvl-g", revision=COMMIT, device="cpu")
    shard.write_bytes(b"torn")
    with pytest.raises(Unavailable, match="cannot be read"):
        image_text.load("internvl-g", revision=COMMIT, device="cpu")


@pytest.mark.parametrize(("fault", "reason"), [("import absent_package", "absent_package"), ("1 / 0", "ZeroDivision")])
def test_code_that_does_not_run_is_one_sentence(fault, reason, repository, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    internvl_repository.write(tmp_path)
    code = next(tmp_path.rglob(internvl_repository.OWN.name))
    code.write_text(code.read_text() + fault + "\n")
    with pytest.raises(Unavailable, match=f"{reason}.*pip install peft.*name another commit"):
        image_text.load("internvl-g", revision=COMMIT, device="cpu")

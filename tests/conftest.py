"""Shared fixtures: a seeded 4-block toy ViT with registers, known to the registry as "toy", and pictures made here."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision.ops import box_iou

from foir import Searcher, encoders, image_text
from foir.encoders import dinov2
from foir.image_text import clip
from foir.index import local_record
from foir.index.manifest import read_manifest
from index_build.pipeline import Plan, build

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["FOIR_DTYPE"] = "float32"  # what "auto" means: the same on every machine
torch.set_num_threads(1)  # threads of a toy spend ten times its work waiting for each other on a busy machine


@encoders.register_encoder("toy-words", weights="made in tests", licence="Apache-2.0", dim=48, heads=6, blocks=4)
@encoders.register_encoder("toy", weights="made in tests", licence="Apache-2.0", dim=48, heads=6, blocks=4)
def build_toy(card, name, revision, pretrained):
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    config = Dinov2WithRegistersConfig(
        hidden_size=48,
        num_attention_heads=6,
        num_hidden_layers=4,
        patch_size=14,
        image_size=112,
        num_register_tokens=4,
        layerscale_value=0.5,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = Dinov2WithRegistersModel(config)
        for parameter in model.parameters():  # biases and registers start at 0; a test should see them
            parameter.data += 0.05 * torch.randn_like(parameter)
    return dinov2.wrap(model, name, "seed-7", size=112)


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory):
    """What foir keeps of the machine between runs lies in a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def toy():
    """A DINOv2 with registers: 4 blocks, 6 heads of 8, an 8 x 8 grid at 112 pixels, random but fixed weights."""
    return encoders.load("toy", device="cpu")


@pytest.fixture(scope="session")
def photo():
    """A made picture, 160 x 120, with structure everywhere."""
    return scene(0)


def scene(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Coloured boxes and discs on a gradient; the same seed gives the same picture."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3) * random.random(3)
    image = Image.fromarray(ramp.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(8):
        x, y = int(random.integers(0, size[0] - 30)), int(random.integers(0, size[1] - 30))
        colour = tuple(int(c) for c in random.integers(0, 256, 3))
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape((x, y, x + 10 + int(random.integers(25)), y + 10 + int(random.integers(25))), fill=colour)
    return image


def draw(folder: Path, count: int) -> Path:
    """So many made pictures in a new folder, 00.png and on; returns it."""
    folder.mkdir()
    for i in range(count):
        scene(i).save(folder / f"{i:02}.png")
    return folder


def adopt(index: Path, root: Path | None) -> Path:
    """Have a copied index count as built on this machine, from the pictures in a folder."""
    local_record.commit(index, read_manifest(index), root)
    return index


def speaking_searcher(root: Path, count: int) -> Searcher:
    """A searcher of so many made pictures, with the toy that knows words."""
    build(Plan(draw(root / "pictures", count), root / "index", "toy-words", heads=True, device="cpu"))
    return Searcher.load(root / "index", device="cpu")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten made pictures in two folders, as PNG."""
    for i in range(10):
        path = tmp_path / "pictures" / ("a" if i % 2 else "b") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(i).save(path)
    return tmp_path / "pictures"


@image_text.register_model("toy-words")
class ToyWords(clip.EncoderModel):
    """A text side for the toy: a text is the feature of the scene whose number the text ends in ("thing 3")."""

    def encode_texts(self, texts):
        ends = [text.split()[-1] for text in texts]
        pictures = [scene(int(end) if end.isdecimal() and len(end) < 9 else len(end)) for end in ends]
        vectors = self.encoder.finish(self.encoder.prefix(self.encoder.pixels(pictures))).vectors.numpy()
        return image_text.TextFeatures(vectors, ("Only the first words were read.",) if len(texts[0]) > 40 else ())

    def caption(self, tokens, perturbation=None):
        count = 0 if perturbation is None else len(perturbation.objects.shares)
        suffix = f", {count} pulled by {perturbation.strength:g}" if count else ""
        return [f"picture of {len(tokens)}{suffix}"] * len(tokens)

    def attention_keys(self, tokens):
        return (self.encoder.open_last_block(tokens).keys,)


def with_members(model, **members):
    """A copy of a model with other methods or attributes."""
    changed = copy.copy(model)
    vars(changed).update(members)
    return changed


def iou(box, boxes) -> np.ndarray:
    """IoU of one box with each of others."""
    one, others = (torch.from_numpy(np.array(values, float).reshape(-1, 4)) for values in (box, boxes))
    return box_iou(one, others)[0].numpy()

"""Small models with random weights, opened as image-text models; prompts and pixels for them."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from foir import Prompt, image_text
from foir.image_text import blip2, coca, internvl
from tests import lookalikes
from tests.foir.image_text import internvl_repository

SIZE = (160, 120)
TEXTS = ["a dog", "two cats on a mat"]


def open_blip2():
    from transformers import Blip2ForImageTextRetrieval

    model = lookalikes.blip2(Blip2ForImageTextRetrieval)
    sites = [layer.crossattention.attention for layer in model.qformer.encoder.layer[::2]]
    opened = blip2.Blip2Retrieval("blip2", "made", model, lookalikes.Letters(1))
    return model, opened, [(s, s.query, s.num_attention_heads) for s in sites]


def open_coca():
    model = lookalikes.coca()
    return model, coca.Coca(model, CocaLetters(), "made"), [(model.visual.attn_pool, None, 3)]


def open_internvl():
    model = lookalikes.stirred(lookalikes.InternVLike())
    sites = [(layer.cross_attn, layer.cross_attn.q_proj, 4) for layer in model.qllama.model.layers[::2]]
    opened = internvl.InternVL(model, lookalikes.Letters(0), "made")
    return model, opened, [*sites, (model.clip_projector.cross_attn, None, 3)]


def open_public_internvl():
    """InternVL-G's public code as foir loads it; see `internvl_repository`."""
    with TemporaryDirectory() as folder, internvl_repository.cached(Path(folder), public=True) as model:
        loaded = image_text.load("internvl-g", revision=internvl_repository.COMMIT, device="cpu")
    assert isinstance(loaded, internvl.InternVL)
    loaded.tokenizer = lookalikes.Letters(0)
    sites = [(layer.cross_attn, layer.cross_attn.q_proj, 4) for layer in model.qllama.model.layers[::2]]
    return model, loaded, [*sites, (model.clip_projector.cross_attn, None, 16)]


class CocaLetters:
    """open_clip's way of calling."""

    def __call__(self, texts):
        rows = [self.encode(text)[:10] for text in texts]
        return torch.tensor([[97, *row, lookalikes.END] + [0] * (10 - len(row)) for row in rows])

    sot_token_id, eot_token_id = 97, lookalikes.END

    def decode(self, ids):
        return " ".join(map(str, ids))

    def encode(self, text):
        return [1 + ord(letter) % 90 for letter in text]


def regions(model, boxes):
    """The objects of each picture."""
    return [[model.region(Prompt.box(*box), SIZE) for box in some] for some in boxes]


BOXES = [[(0, 0, 60, 50), (70, 40, 150, 118)], [(20, 20, 100, 100)]]


def pixels_of(name, pictures):
    """As the model's own library prepares them."""
    from open_clip import image_transform

    from foir.encoders.base import preprocess
    from foir.encoders.clip import MEAN, STD

    if name == "coca":
        return torch.stack([image_transform(56, is_train=False)(picture) for picture in pictures])
    mean, std = (internvl.MEAN, internvl.STD) if name == "internvl" else (MEAN, STD)
    return torch.stack([preprocess(picture, 56, mean, std) for picture in pictures])

"""Small models with random weights, opened as image-text models; prompts and pixels for them."""

import torch

from foir import Prompt
from foir.image_text import blip2, coca, internvl
from foir.patches import rasterise
from tests import lookalikes

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
    return [[rasterise(Prompt.box(*box), SIZE, model.grid) for box in some] for some in boxes]


BOXES = [[(0, 0, 60, 50), (70, 40, 150, 118)], [(20, 20, 100, 100)]]


def pixels_of(name, pictures):
    from foir.encoders.base import preprocess
    from foir.encoders.clip import MEAN, STD

    mean, std = (internvl.MEAN, internvl.STD) if name == "internvl" else (MEAN, STD)
    return torch.stack([preprocess(picture, 56, mean, std) for picture in pictures])

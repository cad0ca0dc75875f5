"""The text side of `mini`: texts in batches, captions."""

from typing import Any, cast

import numpy as np
import pytest
import torch

from foir import encoders, image_text
from foir.mini import captioner
from tests.conftest import scene


def test_words_in_a_batch_are_words_alone():
    model = encoders.load("mini")
    words = image_text.load(model).encode_texts
    texts = ["a dog runs", "two children play football on green grass in front of a house", "sea"]
    together = words(texts).vectors
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for one, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(words([one]).vectors[0], vector, atol=1e-4)
    assert words(["word " * 100]).notes and not words(["word"]).notes


def test_mini_describes_a_picture():
    model = image_text.load("mini")
    assert model.caption is not None
    lines = model.caption(model.encode_images([scene(0), scene(1)]))
    assert len(lines) == 2 and all(2 < len(line.split()) <= captioner.MAX_WORDS for line in lines)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_perturbed_queries_work_in_half_precision(dtype):
    encoder = encoders.load("mini", device="cpu", dtype=dtype)
    half, unchanged = image_text.load(encoder), cast(Any, lambda site, queries: queries)
    tokens = encoder.prefix(encoder.pixels([scene(0)])).block.tokens
    plain, same = half.image_vectors(tokens), half.image_vectors(tokens, unchanged)
    assert plain.dtype == torch.float32 and (plain * same).sum(-1).min() > 0.9999

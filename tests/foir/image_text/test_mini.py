"""The text side of `mini`: texts in batches, captions."""

import numpy as np

from foir import encoders
from foir.mini import captioner
from tests.conftest import scene


def test_words_in_a_batch_are_words_alone():
    model = encoders.load("mini")
    from foir import image_text

    words = image_text.load(model).encode_texts
    texts = ["a dog runs", "two children play football on green grass in front of a house", "sea"]
    together = words(texts).vectors
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for one, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(words([one]).vectors[0], vector, atol=1e-4)
    assert words(["word " * 100]).notes and not words(["word"]).notes


def test_mini_describes_a_picture():
    from foir import image_text

    model = image_text.load("mini")
    assert model.caption is not None
    lines = model.caption(model.encode_images([scene(0), scene(1)]))
    assert len(lines) == 2 and all(2 < len(line.split()) <= captioner.MAX_WORDS for line in lines)

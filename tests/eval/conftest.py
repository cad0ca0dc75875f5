"""Small data sets, a model of images and text, and a data folder of the test's own."""

from dataclasses import replace

import numpy as np
import pytest

from eval.datasets.base import CaptionedDataset, Dataset, Query
from foir import BadPrompt, image_text
from foir.prompts import Prompt
from tests.conftest import scene, with_members


@pytest.fixture
def root(tmp_path, monkeypatch):
    """FOIR_DATA, empty."""
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def made():
    """24 images of 4 categories, two prompts each, leave one out."""
    pictures = tuple((lambda i=i: scene(i)) for i in range(24))
    labels = np.eye(4, dtype=bool)[np.arange(24) % 4] | np.eye(4, dtype=bool)[np.arange(24) // 6]
    queries = tuple(
        Query(i, Prompt.box(10 + i, 10, 70 + i, 80) if j else Prompt.box(60, 40, 150, 110), int(kind))
        for i in range(24)
        for j, kind in enumerate(np.flatnonzero(labels[i]))
    )
    return Dataset("made", pictures, labels, queries, pictures, ("a", "b", "c", "d"), leave_one_out=True)


@pytest.fixture(scope="session")
def masked(made):
    """The data set `made` with a round mask for each query."""

    def disc(i):
        y, x = np.mgrid[:120, :160]
        return (x - 60 - i) ** 2 + (y - 60) ** 2 < 40**2

    queries = tuple(replace(q, mask=lambda i=i: disc(i % 20)) for i, q in enumerate(made.queries))
    return Dataset("masked", made.gallery, made.labels, queries, made.query_images, made.categories, True)


ODD_BOXES = {  # of queries of `odd`; the last two have no part on the image
    3: (70, 80, 10, 10),  # corners in another order
    4: (50, 50, 50, 50),  # no extent
    5: (-20, -10, 40, 500),  # cut by the image
    6: (500, 10, 600, 50),
    7: (float("nan"), 10, 60, 50),
}


@pytest.fixture
def odd(masked):
    """The data set `masked` with odd boxes, and with three outlines that are no outline."""

    def damaged():
        raise BadPrompt("The outline is damaged.")

    queries = list(masked.queries)
    for i, mask in enumerate((lambda: np.zeros((120, 160), bool), damaged, None)):
        queries[i] = replace(queries[i], mask=mask)
    for i, box in ODD_BOXES.items():
        queries[i] = replace(queries[i], prompt=Prompt.box(*box))
    return replace(masked, name="odd", queries=tuple(queries))


@pytest.fixture(scope="session")
def crowded():
    """Sixteen images; image i has 1 + i % 3 prompts, and image 15 has twelve."""
    pictures = tuple((lambda i=i: scene(i)) for i in range(16))
    labels = np.eye(4, dtype=bool)[np.arange(16) % 4]
    queries = tuple(
        Query(i, Prompt.box(10 + 5 * j, 10, 60 + 5 * j, 60), int(np.flatnonzero(labels[i])[0]))
        for i in range(16)
        for j in range(12 if i == 15 else 1 + i % 3)
    )
    return Dataset("made", pictures, labels, queries, pictures, ("a", "b", "c", "d"), leave_one_out=True)


@pytest.fixture
def captioned():
    """Six images with two captions each in the toy's own words, and boxes."""
    pictures = tuple((lambda i=i: scene(i)) for i in range(6))
    captions = tuple((f"thing {i}", f"odd thing {i + 6}") for i in range(6))
    boxes = tuple(((10, 10, 40 + 20 * i, 60), (0, 0, 20, 20)) for i in range(5)) + ((),)
    return CaptionedDataset("made", pictures, captions, boxes={"annotated": boxes})


@pytest.fixture(scope="session")
def speaking():
    """The toy with words, whose last block's CLS query can be perturbed."""
    model = image_text.load("toy-words", device="cpu")
    encoder = model.encoder
    assert encoder is not None

    def vectors(tokens, pull=None):
        from foir.encoders.base import Prefix

        block = encoder.open_last_block(tokens)
        if pull is not None:
            queries = pull(0, block.queries[:, :, :1])
            block = replace(block, logits=(queries @ block.keys.mT).squeeze(-2) * queries.shape[-1] ** -0.5)
        return encoder.finish(Prefix(tokens, block)).vectors[:, None]

    return with_members(model, image_vectors=vectors)

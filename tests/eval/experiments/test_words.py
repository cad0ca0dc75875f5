"""Search by words: precision at R by hand, and captions that are said."""

from dataclasses import replace

import numpy as np
import pytest

from eval.experiments.specs import RunContext
from eval.experiments.words import CaptionSearch, NameSearch
from foir import image_text


@pytest.fixture(scope="module")
def model():
    return image_text.load("toy-words", device="cpu")


def test_names_are_ranked_by_vectors(made, model, tmp_path):
    names = tuple((f"thing {i}", f"odd thing {i}") for i in range(3)) + ((),)
    data = replace(made, category_words=names)
    cells = NameSearch("made", "", (), ()).measure(data, model, RunContext(results=tmp_path))
    whole = next(cell for cell in cells if cell.options["by"] == "whole pictures")
    images = np.concatenate([model.image_vectors(model.encode_images([load()]))[0].numpy() for load in made.gallery])
    values = []
    for column, own in enumerate(names):
        for vector in model.encode_texts(list(own)).vectors if own else ():
            count = int(made.labels[:, column].sum())
            values.append(made.labels[np.argsort(-(images @ vector), kind="stable")[:count], column].mean())
    assert whole.n == 6 and whole.value == pytest.approx(100 * np.mean(values), abs=5)
    assert {cell.metric for cell in cells} == {"precision at R", "precision at R minus whole pictures"}


def test_what_other_captions_say_finds_the_picture(captioned, model, tmp_path):
    said = replace(captioned, captions=tuple((f"number{i}", f"here is number{i}") for i in range(6)))
    cells = CaptionSearch("made", "", (), (), ks=(1,)).measure(said, model, RunContext(results=tmp_path))
    values = {(cell.options["by"], cell.metric): cell.value for cell in cells}
    assert values["regions and captions", "R@1"] == 100
    assert "R@1 minus whole pictures" in {metric for _, metric in values}

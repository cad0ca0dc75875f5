"""Recall under query perturbation: official layouts in miniature, the runner slow readings, published numbers."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from eval import datasets
from eval.cli import main
from eval.datasets import Captioned, Dataset, Query
from eval.experiments import caption_steering, perturbation_cost, qpert, query_perturbation
from eval.experiments.own import EXPERIMENTS
from eval.experiments.specs import Cost, Leaning, Perturbed, Row
from eval.metrics import text_ranking
from eval.metrics.recall import BINS, harmonic_mean, picture_ranks, size_bins, text_ranks
from eval.report import published
from eval.report.results import read
from foir import Prompt, Unavailable, image_text
from foir.image_text import blip2
from tests import lookalikes
from tests.conftest import scene, with_members

SIZE = (60, 40)
ENTITY = """<annotation><filename>{name}.jpg</filename><size><width>60</width><height>40</height><depth>3</depth></size>
<object><name>1</name><name>2</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object>
<object><name>3</name><scene>1</scene><nobndbox>1</nobndbox></object></annotation>"""


@pytest.fixture
def flickr(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    folder = tmp_path / "flickr30k"
    (folder / "flickr30k-images").mkdir(parents=True)
    (folder / "flickr30k_entities" / "Annotations").mkdir(parents=True)
    entries = []
    for number, split in ((11, "test"), (12, "val"), (13, "test"), (14, "train")):
        scene(number, SIZE).save(folder / "flickr30k-images" / f"{number}.jpg")
        (folder / "flickr30k_entities" / "Annotations" / f"{number}.xml").write_text(ENTITY.format(name=number))
        sentences = [{"raw": f" picture {number} said {i}. "} for i in range(6)]
        entries.append({"filename": f"{number}.jpg", "split": split, "sentences": sentences})
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": entries}))
    (folder / "Flickr30K_FG.json").write_text(json.dumps({"11": ["fine 0", "fine 1"], "13": ["fine 2"]}))
    return folder


def test_flickr30k_by_karpathys_split(flickr):
    data = datasets.read_captioned("flickr30k")
    assert data.captions[1] == tuple(f"picture 13 said {i}." for i in range(5))
    assert data.boxes == {"annotated": (((0, 0, 30, 20),),) * 2} and data.binned == "annotated"
    assert data.pictures[0]().size == SIZE
    assert datasets.read_captioned("flickr30k-val").captions[0][0] == "picture 12 said 0."
    assert datasets.read_captioned("flickr-fg").captions == (("fine 0", "fine 1"), ("fine 2",))
    notes = [
        {"image_id": "13", "bbox": [1, 2, 10, 5], "score": 0.9},
        {"image_id": "13", "bbox": [0, 0, 9, 9], "score": 0.1},
        {"image_id": "99", "bbox": [0, 0, 9, 9], "score": 0.9},
    ]
    (flickr / "detections.json").write_text(json.dumps(notes))
    assert datasets.read_captioned("flickr30k").boxes["detected"] == ((), ((1, 2, 11, 7),))


def test_a_damaged_annotation_is_named(flickr):
    path = flickr / "flickr30k_entities" / "Annotations" / "13.xml"
    path.write_text(ENTITY.replace("<xmin>1</xmin>", ""))
    with pytest.raises(Unavailable, match=r"13\.xml is damaged"):
        datasets.read_captioned("flickr30k")
    path.unlink()
    with pytest.raises(Unavailable, match="FOIR_DATA"):
        datasets.read_captioned("flickr30k")


def test_coco_by_karpathys_split(tmp_path, monkeypatch):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    folder = tmp_path / "coco"
    (folder / "val2014").mkdir(parents=True)
    names = ["COCO_val2014_000000000007", "COCO_val2014_000000000008"]
    entries = []
    for number, name in enumerate(names):
        scene(number, SIZE).save(folder / "val2014" / f"{name}.jpg")
        said = [{"raw": f"{number} {i}"} for i in range(5)]
        entries.append({"filename": f"{name}.jpg", "filepath": "val2014", "split": "test", "sentences": said})
    (folder / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    boxes = {"cat": [[0.9, [1.0, 2.0, 11.0, 12.0]]], "mat": [[0.5, [0.0, 0.0, 60.0, 40.0]]]}
    notes = {"7": {"a [cat] on a mat": {"detections": boxes}, "a cat": {"detections": {"cat": boxes["cat"]}}}}
    (folder / "coco_entities_release.json").write_text(json.dumps(notes))
    data = datasets.read_captioned("coco-5k")
    assert data.boxes["annotated"] == (((1, 2, 11, 12), (0, 0, 60, 40)), ())
    assert data.binned == "detected" and "detected" not in data.boxes
    (folder / "detections_val2014.json").write_text(json.dumps([{"image_id": 8, "bbox": [1, 1, 2, 2], "score": 0.5}]))
    assert datasets.read_captioned("coco-5k").boxes["detected"] == ((), ((1, 1, 3, 3),))
    (folder / "detections_val2014.json").write_text(json.dumps([{"image_id": 9, "bbox": [1, 1, 2, 2], "score": 0.5}]))
    with pytest.raises(Unavailable, match="None of the boxes"):
        datasets.read_captioned("coco-5k")
    (folder / "detections_val2014.json").write_text('[{"image')
    with pytest.raises(Unavailable, match="is damaged"):
        datasets.read_captioned("coco-5k")
    (folder / "detections_val2014.json").unlink()
    (folder / "MSCOCO_FG_ann.json").write_text(json.dumps({names[1]: ["fine"]}))
    assert datasets.read_captioned("coco-fg").captions == (("fine",),)


@pytest.mark.parametrize("content", ["{", "[]", '{"images": [{}]}'])
def test_damaged_splits_are_one_sentence(flickr, content):
    (flickr / "dataset_flickr30k.json").write_text(content)
    with pytest.raises(Unavailable, match="damaged"):
        datasets.read_captioned("flickr30k")


@pytest.mark.parametrize("name", ["flickr30k", "coco-5k", "coco-fg", "coco-small-captions"])
def test_absent_data_says_what_to_put_where(tmp_path, monkeypatch, name):
    monkeypatch.setenv("FOIR_DATA", str(tmp_path))
    with pytest.raises(Unavailable, match="FOIR_DATA"):
        datasets.read_captioned(name)


def test_bins_cover_everything_up_to_the_whole_picture():
    boxes = [(), ((0, 0, 6, 4), (0, 0, 30, 4)), ((0, 0, 30, 40),), ((0, 0, 60, 40),)]
    assert size_bins(boxes, [SIZE] * 4).tolist() == [0, 0, 5, BINS - 1]


def test_mean_recall_over_sizes_is_harmonic():
    rng = np.random.default_rng(0)
    bins, images = np.array([0, 0, 3, 3, 9, 9, 9]), np.repeat(np.arange(7), 5)
    hits = rng.random(35) < 0.6
    each = [np.mean([hits[images == i].mean() for i in np.flatnonzero(bins == b)]) for b in (0, 3, 9)]
    mean = harmonic_mean(hits, images, bins)
    assert mean.value == pytest.approx(3 / sum(1 / r for r in each))
    assert mean.low <= mean.value <= mean.high
    hits[np.isin(images, np.flatnonzero(bins == 3))] = False
    assert harmonic_mean(hits, images, bins).value == 0
    some = harmonic_mean(hits[images < 2], images[images < 2], bins)  # only the first bin was asked for
    assert some.value == pytest.approx(hits[images < 2].mean())


@pytest.fixture
def made():
    """Six pictures with two captions each in the toy's own words, and boxes."""
    pictures = tuple((lambda i=i: scene(i)) for i in range(6))
    captions = tuple((f"thing {i}", f"odd thing {i + 6}") for i in range(6))
    boxes = tuple(((10, 10, 40 + 20 * i, 60), (0, 0, 20, 20)) for i in range(5)) + ((),)
    return Captioned("made", pictures, captions, boxes={"annotated": boxes})


ROWS = (
    Row("plain"),
    Row("qpert", {"boxes": "annotated", "strength": 0}),
    Row("qpert", {"boxes": "annotated", "strength": 5, "weight": "1-S"}),
    Row("oes", {"boxes": "annotated"}),
    Row("qpert", {"boxes": "detected"}),
    Row("SCAN", published=("SCAN", "")),
)
TABLE = Perturbed("made", "made", ("made",), ("toy-words",), ROWS, (1, 5))


@pytest.fixture(scope="module")
def speaking():
    """The toy with words, whose last block's CLS query can be pulled at."""
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


def value_of(cells, method, metric, **options):
    (found,) = [
        c.value for c in cells
        if c.method == method and c.metric == metric and options.items() <= c.options.items()
        and ("bin" in options or "bin" not in c.options)
    ]  # fmt: skip
    return found


def test_the_runner_says_what_slow_code_says(made, speaking):
    cells = query_perturbation.run(TABLE, made, speaking)
    words = speaking.encode_texts([text for said in made.captions for text in said]).vectors
    owner = np.repeat(np.arange(6), 2)
    plain = np.stack([speaking.vectors(speaking.encode_images([load()]))[0, 0].numpy() for load in made.pictures])
    for method, by_text in (("plain", words @ plain.T),):
        ranks = text_ranks(by_text, owner)
        slow = [sorted(range(6), key=lambda j: -by_text[t, j]).index(owner[t]) for t in range(12)]
        assert ranks.tolist() == slow
        assert value_of(cells, method, "R@1", direction="t2i") == pytest.approx(100 * np.mean(ranks < 1))
        back = picture_ranks(by_text, owner)
        assert value_of(cells, method, "R@5", direction="i2t") == pytest.approx(100 * np.mean(back < 5))
    for direction in ("t2i", "i2t"):  # a strength of 0 is the plain row
        for metric in ("R@1", "mR@5"):
            same = value_of(cells, "qpert", metric, direction=direction, strength=0)
            assert same == value_of(cells, "plain", metric, direction=direction)
    assert {c.status for c in cells if c.options.get("boxes") == "detected"} == {"not_run"}
    assert not [c for c in cells if c.method == "SCAN"]  # published for other data sets only
    bins = {c.options["bin"] for c in cells if "bin" in c.options}
    assert "0-10%" in bins and len(bins) > 2
    assert any(c.metric == "R@1 minus plain" and c.method == "oes" for c in cells)


def test_a_grid_names_its_best(made, speaking):
    grid = replace(TABLE, rows=ROWS[:3], ks=(1,), chosen=True)
    cells = query_perturbation.run(grid, made, speaking)
    values = [c.value for c in cells if c.metric == "mR@1" and c.method == "qpert" and c.options["direction"] == "t2i"]
    (best,) = [c for c in cells if c.metric == "mR@1, best of the grid"]
    assert len(values) == 2 and best.value == max(value for value in values if value is not None)


def test_rows_that_memory_cannot_hold_at_once_say_the_same(made, speaking, monkeypatch):
    together = query_perturbation.run(TABLE, made, speaking)
    monkeypatch.setattr(text_ranking, "MEMORY", 1)
    assert [c.value for c in query_perturbation.run(TABLE, made, speaking)] == [c.value for c in together]


def test_differences_are_to_the_first_row_that_was_measured(made, speaking):
    cells = query_perturbation.run(replace(TABLE, rows=(ROWS[-1], *ROWS[:3])), made, speaking)
    assert {c.metric.partition(" minus ")[2] for c in cells if "minus" in c.metric} == {"plain"}


def test_object_embeddings_are_of_the_objects_patches(made, speaking):
    tokens = speaking.encode_images([scene(0)])
    row, size = ROWS[3], scene(0).size
    regions = text_ranking._regions(speaking, made, row, 0, size)
    got = text_ranking.object_vectors(speaking, tokens, regions)
    keep = [0, 1, 2, 3, 4, *(5 + np.flatnonzero(regions[1].patches.reshape(-1))).tolist()]
    np.testing.assert_allclose(got[1], speaking.vectors(tokens[:, keep])[0, 0].numpy(), atol=1e-6)
    assert len(text_ranking.object_vectors(speaking, tokens, [])) == 0


def test_the_matching_head_ranks_the_shortlist_again(made, speaking, monkeypatch):
    monkeypatch.setattr(text_ranking, "SHORTLIST", 3)

    def match(tokens, texts, pull=None):
        shift = 0 if pull is None else pull.strength
        return torch.tensor([len(text) + float(text.split()[-1]) * 2 + shift for text in texts]) * tokens[:, 0, 0]

    judged = with_members(speaking, match=match)
    rows = (Row("plain"), Row("qpert", {"boxes": "annotated", "strength": 2, "mode": "legacy"}))
    words = speaking.encode_texts([text for said in made.captions for text in said]).vectors
    plain = np.stack([speaking.vectors(speaking.encode_images([load()]))[0, 0].numpy() for load in made.pictures])
    known = {row: words @ plain.T for row in rows}
    ranked = text_ranking._matched(made, judged, rows, known)
    texts = [text for said in made.captions for text in said]
    for row, shift in ((rows[0], 0), (rows[1], 2)):
        by_text, by_picture = ranked(row)
        for t, text in enumerate(texts):
            for p, load in enumerate(made.pictures):
                s = known[row]
                first = float(speaking.encode_images([load()])[0, 0, 0])
                final = (len(text) + float(text.split()[-1]) * 2 + shift) * first + s[t, p]
                near = (s[t] > s[t, p]).sum() < 3, (s[:, p] > s[t, p]).sum() < 3
                assert by_text[t, p] == pytest.approx(final if near[0] else text_ranking.FAR, abs=1e-4)
                assert by_picture[t, p] == pytest.approx(final if near[1] else text_ranking.FAR, abs=1e-4)


def test_the_papers_numbers_are_beside_their_rows():
    assert published.value("qpert", "2", "flickr30k", "blip2", ("Q-Pert(D)", "T2I"), "R@1") == 89.86
    assert published.value("qpert", "3", "coco-5k", "blip2", ("SCAN", "I2T"), "R@10") == 90.0
    assert published.value("qpert", "4", "flickr-fg", "coca", ("base", "T2I"), "R@1") == 82.84
    for experiment in qpert.EXPERIMENTS:
        if not isinstance(experiment, Perturbed) or not experiment.tables:
            continue
        found = []
        metrics: list[tuple[str, dict[str, str]]] = [
            (f"{kind}@{k}", {}) for kind in ("R", "mR") for k in (1, 5, 10)
        ] + [("R@1", {"bin": "0-10%"})]
        for row, data, model in product(experiment.rows, experiment.datasets, experiment.encoders):
            about = {"dataset": data, "encoder": model}
            for (metric, part), direction in product(metrics, ("t2i", "i2t")):
                found.append(query_perturbation._published(experiment, row, about, direction, metric, part))
        theirs = [key for key in published._all() if key[0] == "qpert" and key[1] in experiment.tables]
        assert sum(value is not None for value in found) == len(theirs), experiment.name


def test_a_caption_that_follows_the_finger_is_counted(speaking):
    def caption(tokens, pull=None):
        if pull is None:
            return ["a cup and a horse"]
        x = float((pull.objects.coverage[0].reshape(-1)[5:] * torch.arange(64)).sum())
        return ["a dog" if x < 100 else "a cup"]

    queries = tuple(Query(0, Prompt.box(*box), kind) for box, kind in (((0, 0, 20, 20), 0), ((100, 80, 150, 110), 1)))
    data = Dataset(
        "made", (), np.zeros((0, 3), bool), queries, (lambda: scene(0),), ("pets", "cup", "big"),
        said=("Two dogs and a cup.",), kinds=(("guide dog", "big"), ("tea cup",), ("horse", "big")),
    )  # fmt: skip
    assert caption_steering.category_words(data) == {"dog": 0, "cup": 1, "horse": 2}
    cells = caption_steering.run(Leaning("made", "made", (), (), (0, 2)), data, with_members(speaking, caption=caption))
    assert value_of(cells, "plain", "says") == 50 and value_of(cells, "plain", "says what is not there") == 100
    assert value_of(cells, "qpert", "says", strength=2) == 100
    assert value_of(cells, "qpert", "says what is not there minus unpointed", strength=2) == -100
    assert value_of(cells, "qpert", "CIDEr", strength=2) is not None
    with pytest.raises(Unavailable, match="writes no captions"):
        caption_steering.run(Leaning("made", "made", (), (), (0,)), data, with_members(speaking, caption=None))


def test_what_it_costs_is_measured_on_the_model(capsys):
    from transformers import Blip2ForImageTextRetrieval

    model = blip2.Blip2Retrieval("blip2", "made", lookalikes.blip2(Blip2ForImageTextRetrieval), lookalikes.Letters(1))
    experiment = EXPERIMENTS["qpert-tableB"]
    assert isinstance(experiment, Cost)
    cells = perturbation_cost.cost(experiment, model, 2)
    ours = {c.options.get("step", c.metric): c.value for c in cells if c.value is not None}
    assert ours["image encoding"] > 0 and ours["subspaces"] > 0
    share = ours["subspaces of image encoding"]
    assert share == pytest.approx(100 * ours["subspaces"] / ours["image encoding"])
    assert [c.published for c in cells if c.status == "published_only"][:2] == [321.0, 413.0]


def test_the_command_line_runs_it(made, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(datasets._captioned, "made", lambda: made)
    out = tmp_path / "cells.json"
    monkeypatch.setitem(EXPERIMENTS, "made", replace(TABLE, rows=ROWS[:1]))
    assert main(["run", "made", "--device", "cpu", "--results", str(tmp_path), "--limit", "3", "--json", str(out)]) == 0
    assert {c.n for c in read(out) if c.metric == "R@1" and "bin" not in c.options} == {3, 6}

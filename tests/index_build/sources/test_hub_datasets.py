"""Indexes of data sets on the Hub, read from parquet a few rows at a time: tables of the true schemas, made here."""

import io

import datasets
import pyarrow.parquet as pq
import pytest

from foir import Index, Unavailable, hub
from index_build import pipeline
from index_build.cli import main
from index_build.pipeline import Plan, build
from index_build.shards import PARTIAL
from index_build.sources.hub_datasets import HubDataset
from tests import standin_hub
from tests.conftest import scene

hub_server = standin_hub.hub
KINDS = ["cup", "chair", "dog"]


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(pipeline, "SHARD_SIZE", 4)
    monkeypatch.setattr(hub, "PAUSES", (0, 0, 0))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


def jpeg(seed):
    out = io.BytesIO()
    scene(seed).save(out, "JPEG")
    return out.getvalue()


def table(rows, features, group):
    """A parquet file as `datasets` writes it to the Hub, with so many rows a group."""
    arrow = datasets.Dataset.from_list(rows, features=features).with_format("arrow")[:]
    out = io.BytesIO()
    pq.write_table(arrow, out, row_group_size=group)
    return out.getvalue()


def flickr(seeds, group=3, broken=()):
    """The schema of lmms-lab/flickr30k."""
    strings = datasets.List(datasets.Value("string"))
    features = datasets.Features(
        image=datasets.Image(),
        caption=strings,
        sentids=strings,
        img_id=datasets.Value("string"),
        filename=datasets.Value("string"),
    )
    rows = [
        {
            "image": {"bytes": b"junk" if seed in broken else jpeg(seed), "path": None},
            "caption": [f"scene {seed}", f"again {seed}"],
            "sentids": ["0", "1"],
            "img_id": str(seed),
            "filename": f"{seed}.jpg",
        }
        for seed in seeds
    ]
    return table(rows, features, group)


def coco(boxes, group=2):
    """The schema of detection-datasets/coco."""
    kinds = datasets.ClassLabel(names=KINDS)
    number = datasets.Value("int64")
    features = datasets.Features(
        image_id=number,
        image=datasets.Image(),
        width=number,
        height=number,
        objects=datasets.Sequence(
            {
                "bbox_id": number,
                "category": kinds,
                "bbox": datasets.List(datasets.Value("float64"), length=4),
                "area": datasets.Value("float64"),
            }
        ),
    )
    rows = [
        {
            "image_id": 139 + place,
            "image": {"bytes": jpeg(place), "path": None},
            "width": 160,
            "height": 120,
            "objects": {
                "bbox_id": list(range(len(things))),
                "category": [kind for kind, _ in things],
                "bbox": [box for _, box in things],
                "area": [1.0] * len(things),
            },
        }
        for place, things in enumerate(boxes)
    ]
    return table(rows, features, group)


FLICKR = "lmms-lab/flickr30k"
COCO = "detection-datasets/coco"


def test_flickr30k_is_read_across_tables_and_row_groups(hub_server, tmp_path, capsys):
    files = {
        "data/test-00000-of-00002.parquet": flickr(range(5)),
        "data/test-00001-of-00002.parquet": flickr(range(5, 9)),
    }
    hub_server.add(FLICKR, {**files, "README.md": b"", "data/other.parquet": b"junk"})
    out = tmp_path / "index"
    assert main(["build", f"hf://datasets/{FLICKR}", "--out", str(out), "--encoder", "toy"]) == 0
    assert capsys.readouterr().out.startswith("9 images indexed, 0 left out")
    index = Index.open(out)
    items = index.items()
    assert [(item.id, item.file, item.caption) for item in items] == [(i, f"{i}.jpg", f"scene {i}") for i in range(9)]
    assert {item.source for item in items} == {"Flickr30K"} and items[0].licence
    assert index.root is None and items[0].bytes is None
    assert [len(shard) for shard in index.space().shards] == [4, 4, 1]


def test_vectors_are_those_of_the_rows_pictures(hub_server, tmp_path, toy):
    from foir import images

    hub_server.add(FLICKR, {"data/test-0.parquet": flickr(range(6), broken=(1, 4))})
    built = build(Plan(HubDataset(FLICKR), tmp_path / "index", "toy", device="cpu"))
    index = Index.open(tmp_path / "index")
    assert [item.id for item in index.items()] == [0, 2, 3, 5]
    assert [entry["file"] for entry in built.rejected] == ["1.jpg", "4.jpg"]
    rows = [vector for shard in index.space().shards for vector in shard]
    for item, row in zip(index.items(), rows, strict=True):
        pixels = toy.pixels([images.read(jpeg(item.id)).image])
        assert float(toy.finish(toy.prefix(pixels)).vectors[0].numpy() @ row.astype("float32")) > 0.999


@pytest.mark.parametrize("sizes", [False, True])
def test_coco_brings_its_objects(hub_server, tmp_path, sizes):
    corners = [[(0, [5, 5, 50, 38]), (2, [10, 20, 30, 35])], [(1, [90, 80, 100, 119])], []]
    told = [[(k, [x, y, x1 - x, y1 - y] if sizes else [x, y, x1, y1]) for k, (x, y, x1, y1) in row] for row in corners]
    hub_server.add(COCO, {"data/train-0.parquet": coco(told, 3), "data/val-0.parquet": coco(told, 3)})
    build(Plan(HubDataset(COCO), tmp_path / "index", "toy", device="cpu"))
    index = Index.open(tmp_path / "index")
    assert [item.file for item in index.items()] == ["000000000139.jpg", "000000000140.jpg", "000000000141.jpg"]
    for id, row in enumerate(corners):
        assert [(thing.category, list(thing.box)) for thing in index.objects(id)] == [
            (KINDS[kind], box) for kind, box in row
        ]


def test_a_build_that_broke_off_goes_on_without_reading_again_what_it_had(hub_server, tmp_path, capsys):
    first, second = "data/test-0.parquet", "data/test-1.parquet"
    hub_server.add(FLICKR, {first: flickr(range(4)), second: flickr(range(4, 8))})
    command = ["build", f"hf://datasets/{FLICKR}", "--encoder", "toy", "--out"]
    out = tmp_path / "index"
    tables = HubDataset(FLICKR)
    hub_server.fail(404, 1000, containing=second)
    with pytest.raises(Unavailable):
        build(Plan(tables, out, "toy", device="cpu"))
    hub_server.heal()
    assert len(list((out / PARTIAL).glob("*.json"))) == 1
    asked = len(hub_server.requests)
    built = build(Plan(tables, out, "toy", device="cpu"))
    assert (built.image_count, built.resumed) == (8, 1)
    assert not any(first in request.path for request in hub_server.requests[asked:])
    assert main([*command, str(tmp_path / "unbroken")]) == 0
    assert Index.open(out).manifest == Index.open(tmp_path / "unbroken").manifest


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"README.md": b""}, "no tables"),
        ({"data/test-0.parquet": b"junk"}, "another form"),
        ({"data/test-0.parquet": coco([[(0, [1, 2, 3, 4])]])}, "another form"),
    ],
)
def test_other_tables_are_one_sentence(hub_server, tmp_path, files, said, capsys):
    hub_server.add(FLICKR, files)
    assert main(["build", f"hf://datasets/{FLICKR}", "--out", str(tmp_path / "index"), "--encoder", "toy"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("index_build: ") and said in last


def test_a_data_set_without_a_recipe_is_refused(capsys, tmp_path):
    assert main(["build", "hf://datasets/somebody/pictures", "--out", str(tmp_path / "index")]) == 1
    assert "no recipe" in capsys.readouterr().err

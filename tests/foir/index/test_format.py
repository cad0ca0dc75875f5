"""Format 2 as docs/format.md defines it, and format 1 beside it."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foir import BadIndex, Index
from foir.app.collections import SAMPLE
from foir.index import Item, Object, local_record, probe, writer
from foir.index.format import BOX, ITEM_SCHEMA, MANIFEST, OBJECT_SCHEMA, OBJECT_SCHEMA_1, digest
from foir.index.manifest import Manifest, RegionFacts, SpaceFacts, manifest_digest, read_manifest
from tests.conftest import adopt

DIM = 16
DISC = Object(1, (1.0, 2.0, 30.0, 40.0), None, "disc", None, "red disc", None)


def vectors(rows):
    return np.eye(rows, DIM, dtype=np.float32)


def write(folder, items=None, regions=None, objects=(DISC,), **facts):
    """An index of three images."""
    folder.mkdir(exist_ok=True)
    space: dict[str, Any] = {
        "encoder": "toy",
        "revision": "1",
        "dtype": "bfloat16",
        "reference_feature": tuple(np.eye(DIM)[0]),
    }
    space |= {"shards": (writer.write_vectors(folder, vectors(3)),)} | facts
    items = items or [Item(id, f"{id}.png", 160, 120, None, None, None, f"{id:064x}") for id in range(3)]
    manifest = writer.build_manifest(folder, {"image": SpaceFacts(**space)}, items, [], objects, regions=regions)
    local_record.commit(folder, manifest, None)
    return folder


def regions(folder, boxes=None, starts=(0, 2, 3, 5), width=DIM):
    boxes = np.array([[0, 0, 65535, 65535]] * starts[-1]) if boxes is None else np.array(boxes)
    name = writer.write_regions(folder, np.eye(starts[-1], width, dtype=np.float32), boxes, np.array(starts))
    return RegionFacts(recipe="{}", shards=(name,))


def test_an_index_of_format_2_gives_back_all_that_was_written(tmp_path):
    item = Item(
        7, "a.png", 160, 120, "a scene", "drawn", "CC0-1.0", "0" * 64, 1, 2, "1" * 64, 1_700_000_000, 120, "exif",
        "Maker A", "50 mm", 5, "red\nround", 1.5,
    )  # fmt: skip
    items = [
        item,
        Item(8, "b.png", 1, 1, None, None, None, "2" * 64),
        Item(1, "c.png", 1, 1, None, None, None, "3" * 64),
    ]
    folder = tmp_path / "index"
    folder.mkdir()
    index = Index.open(write(folder, items, regions(folder)))
    assert index.items() == items and index.objects(1) == (DISC,)
    assert index.space().dtype == "bfloat16"
    assert index.regions is not None and index.regions.starts[0].tolist() == [0, 2, 3, 5]
    assert index.regions.vectors[0].shape == (5, DIM) and index.regions.boxes[0].dtype == np.uint16
    stored = json.loads((folder / MANIFEST).read_text())
    assert set(stored) == {"format", "spaces", "files", "rejected", "items", "objects", "regions", "next_id", "digest"}


def test_the_document_names_every_key_and_column():
    text = (SAMPLE.parents[2] / "docs" / "format.md").read_text()
    for name in (*Manifest.model_fields, *SpaceFacts.model_fields, *ITEM_SCHEMA.names, *OBJECT_SCHEMA.names):
        assert f"`{name}`" in text, name


REGIONS: dict[str, dict[str, Any]] = {
    "fewer images": {"starts": (0, 2, 3)},
    "an image without a region": {"starts": (0, 2, 2, 5)},
    "starts that fall": {"starts": (0, 3, 2, 5)},
    "starts that begin late": {"starts": (1, 2, 3, 5)},
    "another width": {"width": DIM - 1},
    "a box swapped": {"boxes": [[9, 0, 3, 9]] * 5},
}


@pytest.mark.parametrize("case", REGIONS)
def test_regions_that_do_not_fit_are_refused(tmp_path, case):
    folder = tmp_path / "index"
    folder.mkdir()
    with pytest.raises(BadIndex, match="does not fit"):
        Index.open(write(folder, regions=regions(folder, **REGIONS[case])))


def as_format_1(folder, caption=None):
    """Write an index as foir 0.1 did: `probe` and `way`, boxes as lists, fewer columns, a root."""
    old = read_manifest(folder)
    table = pq.read_table(folder / old.objects)
    boxes = pa.array(np.stack([table[corner] for corner in BOX], 1).tolist(), OBJECT_SCHEMA_1.field("box").type)
    table = table.drop_columns(BOX).append_column("box", boxes)
    items = pq.read_table(folder / old.items).select(ITEM_SCHEMA.names[:10])
    items = items.set_column(4, "caption", pa.array([caption] * len(items), pa.string()))
    names = []
    for kind, changed in (("items", items), ("objects", table)):
        sink = pa.BufferOutputStream()
        pq.write_table(changed, sink, compression="zstd")
        names.append(writer._write(folder, sink.getvalue().to_pybytes(), f"-{kind}.parquet"))
    raw = json.loads((folder / MANIFEST).read_text())
    space = raw["spaces"]["image"]
    space |= {"probe": space.pop("reference_feature"), "way": ""}
    del space["dtype"]
    files = {name: facts for name, facts in raw["files"].items() if name not in (old.items, old.objects)}
    files |= {name: {"sha256": digest(folder / name)} for name in names}
    raw |= {"format": 1, "root": "../pictures", "items": names[0], "objects": names[1], "files": files}
    (folder / MANIFEST).write_text(json.dumps(raw | {"digest": manifest_digest(raw)}))


def test_an_index_of_format_1_is_read_and_becomes_one_of_format_2_when_it_is_changed(tmp_path):
    folder = write(tmp_path / "index")
    before = Index.open(folder)
    as_format_1(folder)
    old = Index.open(folder)
    assert old.manifest.format == 1 and old.space().dtype is None and old.root is None
    assert old.items() == before.items() and old.objects(1) == before.objects(1) == (DISC,)
    adopt(folder, tmp_path)
    assert Index.open(folder).manifest.format == 2 and Index.open(folder).objects(1) == (DISC,)


def test_a_format_of_the_future_is_named(tmp_path):
    folder = write(tmp_path / "index")
    raw = json.loads((folder / MANIFEST).read_text()) | {"format": 3}
    (folder / MANIFEST).write_text(json.dumps(raw | {"digest": manifest_digest(raw)}))
    with pytest.raises(BadIndex, match="format '3'; this foir reads 1 to 2"):
        Index.open(folder)


def test_texts_are_cut_to_what_a_reader_accepts(tmp_path):
    item = Item(0, "a.png", 1, 1, "ä" * 10_000, None, None, "0" * 64)
    others = [Item(id, f"{id}.png", 1, 1, None, None, None, "0" * 64) for id in (1, 2)]
    assert Index.open(write(tmp_path / "index", [item, *others])).item(0).caption == "ä" * 4096


def test_what_a_writer_is_given_is_what_a_reader_accepts(tmp_path):
    """Texts with null characters, swapped and endless boxes, huge masks, ten million names that were left out."""
    folder = tmp_path / "index"
    folder.mkdir()
    space = SpaceFacts(
        encoder="toy",
        revision="1",
        reference_feature=tuple(np.eye(DIM)[0]),
        shards=(writer.write_vectors(folder, vectors(3)),),
    )
    items = [Item(id, f"{id}.png", 160, 120, "\0 \u4e00" * 4000, "a\0b", None, f"{id:064x}") for id in range(3)]
    objects = [
        Object(0, (30.0, 40.0, 1.0, 2.0), "1 " * 2**20, "disc", None, "a\0b", None),
        Object(0, (float("nan"), 0.0, 1.0, 1.0), None, "disc", None, "disc", None),
    ]
    rejected = [{"file": "\u4e00" * 100, "reason": "It is damaged."}] * 110_000
    local_record.commit(folder, writer.build_manifest(folder, {"image": space}, items, rejected, objects), None)
    index = Index.open(folder)
    (known,) = index.objects(0)
    assert (known.box, known.mask, known.name) == ((1.0, 2.0, 30.0, 40.0), None, "ab")
    assert index.item(0).source == "ab" and len(index.item(0).caption or "") == 4096
    assert index.rejected()[-1]["reason"].endswith("more files were left out.")


def test_tables_that_no_reader_takes_replace_no_index(tmp_path):
    folder = write(tmp_path / "index")
    before = (folder / MANIFEST).read_bytes()
    with pytest.raises(BadIndex, match="cannot be written"):
        write(folder, [Item(0, "a.png", 2**15, 2**15, None, None, None, "0" * 64)] * 3)
    assert (folder / MANIFEST).read_bytes() == before and len(Index.open(folder)) == 3


def test_captions_of_format_1_that_are_longer_are_cut(tmp_path):
    folder = write(tmp_path / "index")
    as_format_1(folder, caption="long " * 2000)
    assert len(Index.open(folder).item(0).caption or "") == 4096


def test_a_strangers_tables_are_not_read_with_the_modules_of_the_current_folder(tmp_path, monkeypatch):
    items = [Item(id, f"{id}.png", 160, 120, f"{id}" * 3000, None, None, f"{id:064x}") for id in range(3)]
    folder = write(tmp_path / "index", items)
    (folder / "numpy.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(probe, "SMALL", 0)
    probe.probe_tables(folder, str(Index.open(folder).manifest.items), None, 3)
    assert not (folder / "ran").exists()

"""Images on any storage: patterns of files and parquet tables make the same index as a local folder."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foir import Index, Unavailable
from index_build.cli import main
from index_build.pipeline import Plan, build
from index_build.sources import open_source
from tests.conftest import draw, scene


@pytest.fixture
def pictures(tmp_path):
    folder = draw(tmp_path / "pictures", 26)
    for number in (4, 9, 10, 11):
        (folder / f"{number:02}.png").write_bytes(b"no picture")
    return folder


def test_a_pattern_of_files_makes_the_index_of_their_folder(pictures, tmp_path, capsys):
    build(Plan(pictures, tmp_path / "one", "toy", device="cpu"))
    assert main(["build", f"file://{pictures}/**/*.png", "--out", str(tmp_path / "two"), "--encoder", "toy"]) == 0
    ours, theirs = Index.open(tmp_path / "two"), Index.open(tmp_path / "one")
    assert [(i.id, i.file, i.thumb) for i in ours.items()] == [(i.id, i.file, i.thumb) for i in theirs.items()]
    assert [np.array_equal(a, b) for a, b in zip(ours.space().shards, theirs.space().shards, strict=True)] == [True]
    assert len(ours.rejected()) == 4 and ours.root is None


def test_another_file_system_is_read_too(tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    for number in range(3):
        path = tmp_path / f"{number}.png"
        scene(number).save(path)
        memory.pipe(f"/photos/deep/{number}.png", path.read_bytes())
    memory.pipe("/photos/notes.txt", b"none")
    source = open_source("memory://photos/**/*", tmp_path / "index")
    build(Plan(source, tmp_path / "index", "toy", device="cpu"))
    assert [item.file for item in Index.open(tmp_path / "index").items()] == [f"deep/{n}.png" for n in range(3)]


@pytest.mark.parametrize("form", ["bytes", "image"])
def test_tables_with_pictures_make_an_index(tmp_path, form, capsys):
    files = sorted(draw(tmp_path / "pictures", 7).iterdir())
    data = [path.read_bytes() for path in files]
    data[2] = b"no picture"
    held = (
        data
        if form == "bytes"
        else [{"bytes": each, "path": path.name} for each, path in zip(data, files, strict=True)]
    )
    table = pa.table({"image": held, "caption": [f"number {n}" for n in range(7)], "other": list(range(7))})
    pq.write_table(table.slice(0, 5), tmp_path / "a.parquet", row_group_size=2)
    pq.write_table(table.slice(5), tmp_path / "b.parquet")
    assert main(["build", str(tmp_path / "*.parquet"), "--out", str(tmp_path / "index"), "--encoder", "toy"]) == 0
    items = Index.open(tmp_path / "index").items()
    assert [item.id for item in items] == [0, 1, 3, 4, 5, 6]
    assert [item.caption for item in items] == [f"number {n}" for n in (0, 1, 3, 4, 5, 6)]
    assert items[0].file == ("a-0" if form == "bytes" else "00.png")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere://bucket/*.jpg", "cannot be read"),
        ("/nowhere/*.jpg", "matches no images"),
        ("/nowhere/*.parquet", "matches no tables"),
        ("{folder}/plain.parquet", "no image column"),
        ("{folder}/broken.parquet", "cannot be read"),
    ],
)
def test_what_is_no_source_gets_one_sentence(tmp_path, source, words, capsys):
    pq.write_table(pa.table({"number": [1]}), tmp_path / "plain.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"no table")
    asked = source.format(folder=tmp_path)
    assert main(["build", asked, "--out", str(tmp_path / "index"), "--encoder", "toy"]) == 1
    told = capsys.readouterr().err
    assert words in told and "Traceback" not in told


def test_storage_that_does_not_answer_leaves_nothing_out(tmp_path, monkeypatch):
    source = open_source(f"{draw(tmp_path / 'pictures', 3)}/*.png", tmp_path / "index")

    def broken(*given, **how):
        raise PermissionError("no access")

    monkeypatch.setattr("fsspec.open", broken)
    with pytest.raises(Unavailable, match="no access"):
        build(Plan(source, tmp_path / "index", "toy", device="cpu"))

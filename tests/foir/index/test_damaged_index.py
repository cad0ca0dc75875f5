"""A damaged, foreign or made-up index: BadIndex in one sentence, never a crash, never results."""

import hashlib
import json
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foir import BadIndex, Index, Searcher
from foir.cli.main import main
from foir.index import Item, Object, local_record, writer
from foir.index.format import MANIFEST
from foir.index.manifest import SpaceFacts, manifest_digest
from index_build import pipeline
from index_build.pipeline import Plan, build
from index_build.sources import Metadata
from tests.conftest import adopt, scene

FILES = ("manifest", "vectors", "heads", "regions", "items", "objects", "rejected")

NOTES = {"02.png": Metadata("a scene", objects=(Object(-1, (10, 20, 60, 80), None, "disc", None, "red disc", None),))}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """ "pictures", six good and one damaged, and their "index" with heads and an object, in two shards."""
    base = tmp_path_factory.mktemp("damage")
    (base / "pictures").mkdir()
    for i in range(6):
        scene(i).save(base / "pictures" / f"{i:02}.png")
    (base / "pictures" / "broken.jpg").write_bytes(b"junk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "SHARD_SIZE", 4)
        build(Plan(base / "pictures", base / "index", "toy", heads=True, device="cpu", metadata=NOTES))
    return base


@pytest.fixture
def index(made, tmp_path):
    """A copy of the index that a test may harm."""
    shutil.copytree(made / "index", tmp_path / "index")
    return adopt(tmp_path / "index", made / "pictures")


def file_of(index, kind):
    manifest = json.loads((index / MANIFEST).read_text())
    space = manifest["spaces"]["image"]
    names = {
        "manifest": MANIFEST,
        "vectors": space["shards"][-1],
        "heads": space["heads"][0],
        "regions": manifest["regions"]["shards"][-1],
        "items": manifest["items"],
        "objects": manifest["objects"],
        "rejected": manifest["rejected"],
    }
    return index / names[kind]


def assert_refused(made, index, capsys, mode="query"):
    """The command line prints one line on stderr, nothing on stdout, and fails."""
    picture = made / "pictures" / "00.png"
    status = main(["search", str(index), str(picture), "--point", "20,20", "--mode", mode, "--device", "cpu"])
    out, err = capsys.readouterr()
    assert status != 0
    assert out == ""
    assert err.startswith("foir: ") and err.endswith("\n") and err.count("\n") == 1


def flipped(place):
    def flip(path):
        data = bytearray(path.read_bytes())
        at = {"first": 0, "last": len(data) - 1, "middle": len(data) // 2}.get(place)
        if at is None:
            at = random.Random(f"{place} {len(data)}").randrange(len(data))
        data[at] ^= 0xFF if isinstance(place, str) else 1 << place % 8
        path.write_bytes(data)

    return flip


def cut(length):
    return lambda path: path.write_bytes(path.read_bytes()[: length(path.stat().st_size)])


DAMAGE = {f"flip {place}": flipped(place) for place in ("first", "last", "middle", *range(1, 7))} | {
    "cut to 0": cut(lambda size: 0),
    "cut to half": cut(lambda size: size // 2),
    "cut by 1": cut(lambda size: size - 1),
    "append": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "delete": Path.unlink,
    "folder instead": lambda path: (path.unlink(), path.mkdir()),
}


def test_the_index_the_tests_harm_is_sound_before(made, index, capsys):
    opened = Index.open(index)
    assert len(opened) == 6 and len(opened.objects(2)) == 1
    assert len(opened.space().shards) == len(opened.space().z) == 2
    assert all(file_of(index, kind).stat().st_size > 0 for kind in FILES)
    for mode in ("query", "query-db"):
        query = str(made / "pictures" / "00.png")
        assert main(["search", str(index), query, "--point", "20,20", "--mode", mode, "--device", "cpu"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 6


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", FILES)
def test_any_damaged_file_makes_the_index_bad(made, index, kind, damage, capsys):
    path = file_of(index, kind)
    before = path.read_bytes()
    DAMAGE[damage](path)
    assert not path.is_file() or path.read_bytes() != before
    with pytest.raises(BadIndex):
        Index.open(index)
    assert_refused(made, index, capsys)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_thumbnail_costs_that_thumbnail_only(made, index, damage, capsys):
    opened = Index.open(index)
    item = opened.item(2)
    DAMAGE[damage](opened.thumb(item))
    for reader in (opened, Index.open(index)):
        with pytest.raises(BadIndex, match=item.file):
            reader.thumb(item)
        assert reader.thumb(reader.item(3)).is_file()
    query = str(made / "pictures" / "00.png")
    assert main(["search", str(index), query, "--point", "20,20", "--device", "cpu"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6


@pytest.mark.parametrize("damage", ["flip middle", "cut to half", "delete"])
@pytest.mark.parametrize("kind", [*FILES, "thumb"])
def test_building_again_repairs_a_damaged_index(made, index, kind, damage, monkeypatch):
    monkeypatch.setattr(pipeline, "SHARD_SIZE", 4)
    opened = Index.open(index)
    DAMAGE[damage](opened.thumb(opened.item(0)) if kind == "thumb" else file_of(index, kind))
    build(Plan(made / "pictures", index, "toy", heads=True, device="cpu", metadata=NOTES))
    repaired = Index.open(index)
    assert len(repaired) == 6 and len(repaired.objects(2)) == 1
    assert all(repaired.thumb(repaired.item(row)).is_file() for row in range(6))


# Manifests that somebody wrote.


def deep(levels):
    return b"[" * levels + b"]" * levels


MANIFESTS = {
    "empty": b"",
    "list": b"[1, 2]",
    "string": b'"index"',
    "number": b"7",
    "null": b"null",
    "empty object": b"{}",
    "not JSON": b"{'format': 1}",
    "not UTF-8": b'{"format": "\xff\xfe\xfa"}',
    "UTF-16 cut": '{"format": 1}'.encode("utf-16")[:-1],
    "deep, open": b"[" * 100_000,
    "deep": deep(100_000),
    "deep inside an object": b'{"a": ' + deep(100_000) + b"}",
    "digest of another kind": b'{"digest": {"sha256": 1}, "format": 1}',
    "huge number": b'{"format": ' + b"9" * 5000 + b"}",
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_is_something_else_makes_the_index_bad(made, index, case, capsys):
    (index / MANIFEST).write_bytes(MANIFESTS[case])
    with pytest.raises(BadIndex):
        Index.open(index)
    assert_refused(made, index, capsys)


def test_no_depth_of_nesting_overflows_the_stack(index):
    for levels in range(sys.getrecursionlimit() - 250, sys.getrecursionlimit() + 10):
        (index / MANIFEST).write_bytes(b'{"a": ' + deep(levels) + b"}")
        with pytest.raises(BadIndex):
            Index.open(index)


def rewrite(index, change):
    """Change a manifest and give it the digest it then needs, as somebody with bad intent would."""
    manifest = json.loads((index / MANIFEST).read_text())
    change(manifest, manifest["spaces"]["image"])
    manifest["digest"] = manifest_digest(manifest)
    (index / MANIFEST).write_text(json.dumps(manifest))


def without(key):
    return lambda manifest, space: (space if key in space else manifest).pop(key)


def having(**values):
    return lambda manifest, space: [(space if key in space else manifest).update({key: values[key]}) for key in values]


ABSENT = f"{0:032x}.safetensors"

CHANGES = {
    "format 3": having(format=3),
    "format 0": having(format=0),
    "format as text": having(format="1"),
    "no format": without("format"),
    "no files": without("files"),
    "no items": without("items"),
    "no spaces": without("spaces"),
    "no image space": having(spaces={}),
    "spaces as a list": having(spaces=[]),
    "files as a list": having(files=[]),
    "no encoder": without("encoder"),
    "encoder as a list": having(encoder=["toy"]),
    "encoder as null": having(encoder=None),
    "another encoder": having(encoder="dinov2-base-reg-from-nowhere"),
    "another revision": having(revision="seed-8"),
    "no shards": having(shards=[]),
    "shards as null": having(shards=None),
    "items that are not items": lambda manifest, space: manifest.update(items=manifest["rejected"]),
    "items that are objects": lambda manifest, space: manifest.update(items=manifest["objects"]),
    "objects that are items": lambda manifest, space: manifest.update(objects=manifest["items"]),
    "heads as vectors": lambda manifest, space: space.update(shards=space["heads"]),
    "vectors as heads": lambda manifest, space: space.update(heads=space["shards"]),
    "a shard twice": lambda manifest, space: space.update(shards=space["shards"] + space["shards"][:1]),
    "a shard left out": lambda manifest, space: space.update(shards=space["shards"][1:]),
    "probe of another model": lambda manifest, space: space.update(reference_feature=space["reference_feature"][::-1]),
    "probe that is too short": lambda manifest, space: space.update(reference_feature=space["reference_feature"][1:]),
    "probe as text": having(reference_feature="vector"),
    "probe as null": having(reference_feature=None),
    "probe that is no number": having(reference_feature=[float("nan")] * 48),
    "probe with a number beyond any float": having(reference_feature=[10**400] * 48),
    "a listed file without a digest": lambda manifest, space: manifest["files"].update({space["shards"][0]: {}}),
    "a listed file that is not there": lambda manifest, space: manifest["files"].update({ABSENT: {"sha256": "0" * 64}}),
    "a listed name no disk can hold": lambda manifest, space: manifest["files"].update({"\0": {"sha256": ""}}),
    "a listed name with half a character": lambda manifest, space: manifest["files"].update({"\ud800": {"sha256": ""}}),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_manifest_with_the_right_digest_and_wrong_facts_gives_no_results(made, index, toy, case, capsys):
    rewrite(index, CHANGES[case])
    with pytest.raises(BadIndex):
        Searcher(Index.open(index), toy)
    assert_refused(made, index, capsys)


@pytest.mark.parametrize("heads", [[], "once", "swapped", "twice"])
def test_a_head_cache_that_does_not_fit_the_vectors_gives_no_results(made, index, heads, capsys):
    def change(manifest, space):
        one, two = space["heads"]
        space["heads"] = {"once": [one], "swapped": [two, one], "twice": [one, two, one]}.get(str(heads), [])

    rewrite(index, change)
    if heads:
        with pytest.raises(BadIndex):
            Index.open(index)
    assert_refused(made, index, capsys, mode="query-db")


OUTSIDE = ("../{}", "thumbs/../{}", "./../{}", "/{}", "..")


@pytest.mark.parametrize("pattern", OUTSIDE)
@pytest.mark.parametrize("kind", ["items", "objects", "vectors", "heads", "regions"])
@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not listed"])
def test_a_manifest_cannot_name_a_file_outside_the_index(made, index, pattern, kind, listed, capsys):
    inside = file_of(index, kind)
    outside = index.parent / inside.name
    inside.rename(outside)
    name = str(outside) if pattern.startswith("/") else pattern.format(inside.name)

    def change(manifest, space):
        facts = manifest["files"].pop(inside.name)
        if listed:
            manifest["files"][name] = facts
        renamed = json.loads(json.dumps([manifest, space]).replace(json.dumps(inside.name), json.dumps(name)))
        if not listed:
            renamed[0]["files"] = manifest["files"]
        manifest.update(renamed[0])

    rewrite(index, change)
    with pytest.raises(BadIndex):
        Index.open(index)
    assert_refused(made, index, capsys)


@pytest.mark.parametrize("kind", ["items", "objects", "vectors", "heads", "regions"])
def test_a_file_the_manifest_uses_but_gives_no_digest_of_is_not_believed(made, index, kind, capsys):
    name = file_of(index, kind).name
    rewrite(index, lambda manifest, space: manifest["files"].pop(name))
    with pytest.raises(BadIndex):
        Index.open(index)
    assert_refused(made, index, capsys)


def tensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def shard(dtype="F16", shape=(2, 48), offsets=(0, 192)):
    return tensors({"vectors": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}, bytes(192))


SHARDS = {
    "nothing": b"",
    "half a length": b"\1\2\3",
    "length beyond the file": tensors(b"{}", length=1000),
    "length beyond any file": tensors(b"{}", length=2**63),
    "length beyond any number": b"\xff" * 8,
    "header that is no JSON": tensors(b"{{"),
    "header as a list": tensors([1]),
    "header that is deep": tensors(deep(100_000)),
    "no vectors": tensors({}),
    "vectors as null": tensors({"vectors": None}),
    "unknown dtype": shard("I64"),
    "rows beyond the file": shard(shape=(2**20, 48)),
    "rows beyond any number": shard(shape=(2**70, 48)),
    "rows below zero": shard(shape=(-2, 48)),
    "shape as text": shard(shape="2"),
    "one dimension": shard(shape=(2,)),
    "three dimensions": shard(shape=(2, 6, 8)),
    "offset beyond the file": shard(offsets=(10**6, 10**6 + 192)),
    "offset before the file": shard(offsets=(-(10**6), 192)),
    "vectors of another width": shard(shape=(2, 40)),
}


@pytest.mark.parametrize("case", SHARDS)
def test_a_shard_with_the_right_digest_that_is_no_shard_gives_no_results(made, index, toy, case, capsys):
    file_of(index, "vectors").unlink()
    digest = hashlib.sha256(SHARDS[case]).hexdigest()
    name = f"{digest[:32]}.safetensors"
    (index / name).write_bytes(SHARDS[case])

    def change(manifest, space):
        del manifest["files"][space["shards"][-1]]
        space["shards"][-1] = name
        manifest["files"][name] = {"sha256": digest}

    rewrite(index, change)
    with pytest.raises(BadIndex):
        Searcher(Index.open(index), toy)
    assert_refused(made, index, capsys)


# Indexes that foir.index.writer wrote from parts that do not belong together.


def written(folder, toy, *, items=3, vectors=(3, 48), heads=None, probe=None):
    folder.mkdir()
    rows = np.eye(*vectors, dtype=np.float32)
    cache = () if heads is None else (writer.write_heads(folder, np.ones((heads, 6, 8)), np.ones((heads, 48))),)
    space = SpaceFacts(
        encoder="toy",
        revision=toy.revision,
        reference_feature=tuple((toy.reference_feature() if probe is None else probe).tolist()),
        shards=(writer.write_vectors(folder, rows),),
        heads=cache,
    )
    listed = [Item(i, f"{i}.png", 160, 120, None, None, None, "0" * 64) for i in range(items)]
    local_record.commit(folder, writer.build_manifest(folder, {"image": space}, listed, []), None)
    return folder


def test_an_index_written_from_parts_that_fit_is_sound(tmp_path, toy):
    index = Index.open(written(tmp_path / "index", toy, heads=3))
    assert len(index) == 3 and len(Searcher(index, toy).space.z[0]) == 3


@pytest.mark.parametrize("items", [0, 2, 4])
def test_another_number_of_items_than_vectors_makes_the_index_bad(made, tmp_path, toy, items, capsys):
    index = written(tmp_path / "index", toy, items=items)
    with pytest.raises(BadIndex, match=f"{items} items"):
        Index.open(index)
    assert_refused(made, index, capsys)


@pytest.mark.parametrize("heads", [2, 4])
def test_another_number_of_cached_heads_than_vectors_makes_the_index_bad(made, tmp_path, toy, heads, capsys):
    index = written(tmp_path / "index", toy, heads=heads)
    with pytest.raises(BadIndex):
        Index.open(index)
    assert_refused(made, index, capsys, mode="query-db")


def test_vectors_of_another_width_than_the_encoders_give_no_results(made, tmp_path, toy, capsys):
    index = written(tmp_path / "index", toy, vectors=(3, 47))
    with pytest.raises(BadIndex):
        Searcher(Index.open(index), toy)
    assert_refused(made, index, capsys)


@pytest.mark.parametrize("blend", [0.0, 0.9])
def test_a_changed_probe_is_a_bad_index(made, tmp_path, toy, blend, capsys):
    probe = toy.reference_feature()
    other = np.roll(probe, 1)
    other -= (other @ probe) * probe
    other = blend * probe + np.sqrt(1 - blend**2) * other / np.linalg.norm(other)
    index = written(tmp_path / "index", toy, probe=other.astype(np.float32))
    with pytest.raises(BadIndex, match="other features"):
        Searcher(Index.open(index), toy)
    assert_refused(made, index, capsys)


def test_a_probe_that_differs_by_rounding_only_is_accepted(tmp_path, toy):
    index = written(tmp_path / "index", toy, probe=toy.reference_feature().astype(np.float16))
    assert Searcher(Index.open(index), toy).space.encoder == "toy"


@pytest.mark.parametrize("change", [{"name": "other"}, {"revision": "seed-8"}, {"mean": (0.1, 0.9, 0.1)}], ids=str)
def test_an_index_is_refused_to_another_encoder_revision_or_behaviour(made, toy, change):
    index = Index.open(made / "index")
    with pytest.raises(BadIndex, match="toy"):
        Searcher(index, replace(toy, **change))


# Things that are no index at all.


def test_an_empty_folder_is_no_index(made, tmp_path, capsys):
    with pytest.raises(BadIndex, match="no index"):
        Index.open(tmp_path)
    assert_refused(made, tmp_path, capsys)


def test_a_folder_that_is_not_there_is_no_index(made, tmp_path, capsys):
    with pytest.raises(BadIndex, match="no index"):
        Index.open(tmp_path / "nowhere")
    assert_refused(made, tmp_path / "nowhere", capsys)


def test_a_file_is_no_index(made, capsys):
    for path in (made / "pictures" / "00.png", made / "index" / MANIFEST):
        with pytest.raises(BadIndex):
            Index.open(path)
        assert_refused(made, path, capsys)


def test_the_part_of_a_build_that_was_killed_is_no_index(made, index, capsys):
    (index / MANIFEST).rename(index / f"{MANIFEST}.123.part")
    with pytest.raises(BadIndex, match="no index"):
        Index.open(index)
    assert_refused(made, index, capsys)

"""Indexes on the Hub: the real client, a stand-in of the Hub, and everything that can go wrong between them."""

import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foir import BadIndex, Index, Searcher, Unavailable, hub
from foir.app.collections import SAMPLE
from foir.cli.main import main as search
from foir.encoders import mini
from foir.index import Space, remote
from foir.index.manifest import manifest_digest
from foir.search.encoder_check import load_encoder
from index_build.cli import main
from index_build.pipeline import Plan, build
from index_build.publish import card, publish
from index_build.sources import Metadata
from index_build.update import update
from tests import standin_hub
from tests.conftest import draw, scene

hub_server = standin_hub.hub
REPO = "somebody/an-index"


@pytest.fixture(autouse=True)
def impatient(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "PAUSES", (0, 0, 0))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


@pytest.fixture
def made(tmp_path):
    """An index of six pictures with heads, a caption, a licence, and one file left out."""
    folder = draw(tmp_path / "pictures", 6)
    (folder / "broken.jpg").write_bytes(b"junk")
    notes = {"00.png": Metadata("a scene", "drawn here", "MIT")}
    build(Plan(folder, tmp_path / "index", "toy-words", heads=True, device="cpu", metadata=notes))
    return tmp_path / "index"


def content(folder):
    """What an index says and publishes: items with their thumbnails' bytes, vectors, head cache."""
    index = Index.open(folder)
    items = [
        (item.id, item.width, item.height, item.caption, item.source, item.licence, index.thumb(item).read_bytes())
        for item in index.items()
    ]
    spaces = {
        name: [np.concatenate(parts).tobytes() for parts in (space.shards, space.z, space.residual) if parts]
        for name, space in index.spaces.items()
    }
    return items, spaces


def test_what_is_published_is_what_is_pulled(made, hub_server, tmp_path, capsys):
    assert main(["publish", str(made), "--repo", REPO]) == 0
    address = capsys.readouterr().out.strip()
    out = tmp_path / "copy"
    assert main(["pull", REPO, "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == address
    assert address == f"hf://datasets/{REPO}@{hub_server.find(REPO)[0]}"
    assert content(out) == content(made)
    manifest = Index.open(out).manifest
    assert manifest.origin == address
    assert not manifest.thumbs and not list(out.glob("*thumbs*.parquet"))
    query = str(made.parent / "pictures" / "03.png")
    assert search(["search", str(out), query, "--point", "20,20", "--mode", "query-db", "--device", "cpu"]) == 0


def test_no_picture_and_no_folder_of_the_publisher_is_in_the_repository(made, hub_server):
    publish(made, REPO)
    files = hub_server.files(REPO)
    assert {Path(name).suffix for name in files} == {".json", ".jsonl", ".parquet", ".safetensors", ".md", ""}
    assert not any(str(made.parent).encode() in data for data in files.values())
    assert "root" not in json.loads(files["manifest.json"])


def test_the_card_says_what_it_is_and_whose_pictures(made):
    text = card(Index.open(made), REPO)
    for fact in ("6 images", "toy-words", "`seed-7`", "1 unreadable files", "drawn here | MIT | 1", "not stated"):
        assert fact in text
    assert text.startswith("---\n") and "license: other" in text and f"hf://datasets/{REPO}" in text
    assert "Flickr8k" not in text  # the toy learnt from nothing
    assert card(Index.open(SAMPLE), REPO).count(mini.TERMS) == 1


def test_a_newer_state_replaces_the_old_one_and_the_old_commit_can_still_be_pulled(made, hub_server, tmp_path):
    first = publish(made, REPO)
    old = content(made)
    scene(40).save(made.parent / "pictures" / "40.png")
    (made.parent / "pictures" / "01.png").unlink()
    update(made, device="cpu")
    second = publish(made, REPO)
    files = hub_server.files(REPO)
    listed = json.loads(files["manifest.json"])["files"]
    assert set(files) - {".gitattributes", "README.md", "manifest.json"} == set(listed)
    out = tmp_path / "copy"
    assert remote.pull(REPO, out, first.split("@")[1]) == first
    assert content(out) == old
    assert remote.pull(REPO, out) == second
    assert content(out) == content(made)


def test_every_commit_holds_one_whole_index(made, hub_server, tmp_path):
    publish(made, REPO)
    scene(41).save(made.parent / "pictures" / "41.png")
    update(made, device="cpu")
    publish(made, REPO)
    commits = [sha for sha, files in hub_server.repos[REPO].items() if "manifest.json" in files]
    assert len(commits) == 3  # the manifest of the first state stays while the files of the second come
    for number, sha in enumerate(commits):
        remote.pull(REPO, tmp_path / str(number), sha)
        assert len(Index.open(tmp_path / str(number))) == (6, 6, 7)[number]


def test_publishing_the_same_state_again_changes_nothing(made, hub_server):
    assert publish(made, REPO) == publish(made, REPO)


def test_a_damaged_index_is_not_published(made, hub_server):
    next(iter(made.glob("thumbs/*/*.jpg"))).write_bytes(b"other")
    with pytest.raises(BadIndex, match="thumbnail"):
        publish(made, REPO)
    assert REPO not in hub_server.repos


def test_an_address_is_pulled_once_and_serves_when_the_hub_is_away(made, hub_server):
    publish(made, REPO)
    folder = remote.local_copy(f"hf://datasets/{REPO}")
    asked = len(hub_server.requests)
    assert remote.local_copy(f"hf://datasets/{REPO}") == folder
    assert not any("/resolve/" in request.path for request in hub_server.requests[asked:])
    hub_server.stop()
    with pytest.warns(UserWarning, match="connection"):
        assert remote.local_copy(f"hf://datasets/{REPO}") == folder
        searcher = Searcher.load(f"hf://datasets/{REPO}", device="cpu")
    assert len(searcher.index) == 6


def test_an_address_with_a_commit_stays_at_it(made, hub_server):
    first = publish(made, REPO)
    scene(41).save(made.parent / "pictures" / "41.png")
    update(made, device="cpu")
    publish(made, REPO)
    assert len(Index.open(remote.local_copy(first))) == 6
    assert len(Index.open(remote.local_copy(f"hf://datasets/{REPO}"))) == 7


@pytest.mark.parametrize(
    "address",
    [
        "hf://models/a/b",
        "hf://datasets/a",
        "hf://datasets/a/b/c",
        "hf://datasets/a/b@",
        "hf://datasets/a/b@../../x",
        "hf://datasets/a/b@..",
        "hf://datasets/a/b@refs/pr/7",
        "hf://datasets/a/..",
        "hf://datasets/a/*",
        "hf://datasets/a/b@\uff41",
    ],
)
def test_other_addresses_are_refused_in_one_sentence(address, capsys):
    assert search(["search", address, "--text", "a dog"]) == 1
    assert "no address of an index" in capsys.readouterr().err


def refuse(capsys, *words):
    """The command line fails with one line that says these words."""
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert out == "" and last.startswith("index_build: ")
    for word in words:
        assert word in last


def test_gated_absent_and_unreachable(made, hub_server, tmp_path, capsys):
    publish(made, REPO)
    out = tmp_path / "copy"
    hub_server.gated.add(REPO)
    assert main(["pull", REPO, "--out", str(out)]) == 1
    refuse(capsys, "gated", "HF_TOKEN")
    hub_server.heal()
    assert main(["pull", "nobody/nothing", "--out", str(out)]) == 1
    refuse(capsys, "not on the Hub")
    assert main(["pull", REPO, "--out", str(out), "--revision", "v9"]) == 1
    refuse(capsys, "no such revision")
    assert main(["pull", "not a name", "--out", str(out)]) == 1
    refuse(capsys, "owner/name")
    hub_server.stop()
    assert main(["pull", REPO, "--out", str(out)]) == 1
    refuse(capsys, "connection")
    assert not out.exists()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_asks_for_patience_gets_it_and_one_that_never_answers_is_named(
    made, hub_server, tmp_path, status, capsys
):
    hub_server.fail(status, 2)
    publish(made, REPO)
    hub_server.fail(status, 2)
    hub_server.fail(status, 2, containing="/resolve/", method="GET")
    remote.pull(REPO, tmp_path / "copy")
    assert content(tmp_path / "copy") == content(made)
    hub_server.fail(status, 1000)
    assert main(["pull", REPO, "--out", str(tmp_path / "other")]) == 1
    refuse(capsys, str(status), "later")


def largest(server):
    files = server.files(REPO)
    return max((name for name in files if name.endswith(".safetensors")), key=lambda name: len(files[name]))


def test_a_download_that_breaks_is_taken_up(made, hub_server, tmp_path):
    publish(made, REPO)
    hub_server.cut(largest(hub_server), after=3000, times=2)
    remote.pull(REPO, tmp_path / "copy")
    assert content(tmp_path / "copy") == content(made)


def test_a_pull_that_fails_loses_no_whole_file_and_no_old_index(made, hub_server, tmp_path, capsys):
    out = tmp_path / "copy"
    publish(made, REPO)
    remote.pull(REPO, out)
    old = content(out)
    scene(43).save(made.parent / "pictures" / "43.png")
    update(made, device="cpu")
    publish(made, REPO)
    broken = largest(hub_server)
    hub_server.cut(broken, after=1, times=1000)
    assert main(["pull", REPO, "--out", str(out)]) == 1
    refuse(capsys, "connection", "again")
    assert content(out) == old
    hub_server.heal()
    asked = len(hub_server.requests)
    remote.pull(REPO, out)
    assert content(out) == content(made)
    fetched = [request.path for request in hub_server.requests[asked:] if request.method == "GET"]
    assert not any(name in path for path in fetched for name in ("items.parquet", "manifest.json"))


def test_a_file_with_other_bytes_is_fetched_again_and_refused_if_it_stays_wrong(made, hub_server, tmp_path, capsys):
    publish(made, REPO)
    name = largest(hub_server)
    hub_server.corrupt(name)
    out = tmp_path / "copy"
    assert main(["pull", REPO, "--out", str(out)]) == 1
    refuse(capsys, name, "not what its manifest names")
    assert not out.exists()
    hub_server.heal()  # the bad bytes lie in the client's cache now
    remote.pull(REPO, out)
    assert content(out) == content(made)


MADE_UP = {
    "no manifest": lambda manifest: None,
    "a file outside": lambda manifest: manifest | {"items": "../../secrets.parquet"},
    "a file without a digest": lambda manifest: manifest | {"files": {}},
    "no spaces": lambda manifest: {key: value for key, value in manifest.items() if key != "spaces"},
    "thumbnails elsewhere": lambda manifest: manifest | {"thumbs": ["../thumbs.parquet"]},
    "a file of another name": lambda manifest: _renamed(manifest, ".bashrc"),
    "a pattern for a name": lambda manifest: _renamed(manifest, "*"),
}


def _renamed(manifest, name):
    """The manifest with a thumbnails' table of another name, whose digest it gives."""
    table = manifest["thumbs"][0]
    return manifest | {"thumbs": [name], "files": manifest["files"] | {name: manifest["files"][table]}}


def test_only_the_keys_that_a_copy_needs_are_pulled(made, hub_server, tmp_path):
    publish(made, REPO)
    published = json.loads(hub_server.files(REPO)["manifest.json"])
    strange = {"retired": [{"uri": "http://localhost:1", "collection": "mine"}], "root": "/"}
    manifest = published | strange
    manifest["spaces"]["image"]["command"] = "rm"
    hub_server.add(REPO, {"manifest.json": json.dumps(manifest | {"digest": manifest_digest(manifest)}).encode()})
    remote.pull(REPO, tmp_path / "copy")
    copy = json.loads((tmp_path / "copy" / "manifest.json").read_text())
    assert set(copy) == {"format", "items", "rejected", "next_id", "spaces", "files", "origin", "digest", "regions"}
    assert "command" not in copy["spaces"]["image"] and Index.open(tmp_path / "copy").root is None
    assert content(tmp_path / "copy") == content(made)


def test_an_index_of_an_early_version_without_a_next_id_is_pulled(made, hub_server, tmp_path):
    publish(made, REPO)
    manifest = json.loads(hub_server.files(REPO)["manifest.json"])
    del manifest["next_id"]
    hub_server.add(REPO, {"manifest.json": json.dumps(manifest | {"digest": manifest_digest(manifest)}).encode()})
    remote.pull(REPO, tmp_path / "copy")
    assert content(tmp_path / "copy") == content(made)


def test_a_folder_with_other_files_is_not_pulled_into(made, hub_server, tmp_path, capsys):
    publish(made, REPO)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bashrc").write_text("mine")
    assert main(["pull", REPO, "--out", str(home)]) == 1
    refuse(capsys, "holds no index", ".bashrc")
    assert [path.name for path in home.iterdir()] == [".bashrc"]


@pytest.mark.parametrize("revision", ["main", "refs/pr/7", "../../x", "0" * 39])
def test_an_index_names_weights_by_commit_only(revision):
    space = Space("dinov2-small-reg", revision, np.zeros(384, np.float32), (), (), ())
    with pytest.raises(BadIndex, match="no commit"):
        load_encoder(space, "cpu", "float32")


@pytest.mark.parametrize("name", ["*", "[a-z]*", "a?"])
def test_the_hub_is_never_asked_for_a_pattern_of_files(made, hub_server, name):
    publish(made, REPO)
    asked = len(hub_server.requests)
    with pytest.raises(Unavailable, match="pattern"):
        hub.download_files(REPO, hub_server.find(REPO)[0], [name])
    assert len(hub_server.requests) == asked


@pytest.mark.parametrize("what", MADE_UP)
def test_a_repository_that_is_no_index_is_refused(made, hub_server, tmp_path, what, capsys):
    publish(made, REPO)
    files = dict(hub_server.files(REPO))
    manifest = MADE_UP[what](json.loads(files.pop("manifest.json")))
    if manifest is not None:
        files["manifest.json"] = json.dumps(manifest | {"digest": manifest_digest(manifest)}).encode()
    hub_server.add("somebody/else", files, fresh=True)
    assert main(["pull", "somebody/else", "--out", str(tmp_path / "copy")]) == 1
    refuse(capsys, "somebody/else", "index")
    assert not (tmp_path / "copy").exists()


def test_a_folder_that_a_repository_names_is_not_believed(made, hub_server, tmp_path):
    publish(made, REPO)
    manifest = json.loads(hub_server.files(REPO)["manifest.json"]) | {"root": "/etc"}
    manifest["digest"] = manifest_digest(manifest)
    hub_server.add(REPO, {"manifest.json": json.dumps(manifest).encode()})
    remote.pull(REPO, tmp_path / "copy")
    index = Index.open(tmp_path / "copy")
    assert index.root is None
    assert index.picture(index.item(0)) == index.thumb(index.item(0))


def test_a_copy_cannot_be_added_to_but_pictures_can_be_removed(made, hub_server, tmp_path, capsys):
    publish(made, REPO)
    out = tmp_path / "copy"
    remote.pull(REPO, out)
    assert main(["update", str(out)]) == 1
    refuse(capsys, "--root FOLDER")
    assert main(["remove", str(out), "image-0"]) == 0
    assert len(Index.open(out)) == 5


def test_many_thumbnails_lie_in_several_tables(made, hub_server, tmp_path, monkeypatch):
    monkeypatch.setattr("index_build.publish.TABLE_THUMBS", 4)
    publish(made, REPO)
    tables = [name for name in hub_server.files(REPO) if name.endswith("-thumbs.parquet")]
    assert len(tables) == 2
    remote.pull(REPO, tmp_path / "copy")
    assert content(tmp_path / "copy") == content(made)


def test_a_damaged_table_of_thumbnails_is_named(made, hub_server, tmp_path, monkeypatch):
    publish(made, REPO)
    name = next(name for name in hub_server.files(REPO) if name.endswith("-thumbs.parquet"))
    table = hub.download_files(REPO, hub_server.find(REPO)[0], [name]) / name
    other = pq.read_table(table).rename_columns(["digest", "picture"])
    broken = tmp_path / table.name
    pq.write_table(other, broken)
    with pytest.raises(BadIndex, match="cannot be read"):
        remote._unpack(broken, tmp_path, set())


def test_publishing_without_permission_is_one_sentence(made, hub_server, capsys):
    hub_server.fail(403, 1000, method="POST")
    assert main(["publish", str(made), "--repo", REPO]) == 1
    refuse(capsys, REPO, "403")


def test_upload_needs_no_second_sending_after_a_failure(made, hub_server):
    hub_server.fail(500, 1000, containing="/commit/")
    with pytest.raises(Unavailable, match="500"):
        publish(made, REPO)
    hub_server.heal()
    sent = {request.path for request in hub_server.requests if request.method == "PUT"}
    assert sent
    asked = len(hub_server.requests)
    publish(made, REPO)
    again = [request.path for request in hub_server.requests[asked:] if request.method == "PUT"]
    assert not sent & set(again)


def test_the_copy_needs_no_cache_of_the_client(made, hub_server, tmp_path):
    publish(made, REPO)
    out = tmp_path / "copy"
    remote.pull(REPO, out)
    shutil.rmtree(tmp_path / "cache")
    assert content(out) == content(made)


# What is not ours.


def test_a_repository_that_holds_other_files_is_left_alone(made, hub_server, capsys):
    files = {"data/train-00000.parquet": b"somebody's", "labels.jsonl": b"{}", "README.md": b"mine"}
    hub_server.add(REPO, files)
    assert main(["publish", str(made), "--repo", REPO]) == 1
    refuse(capsys, "other files")
    assert hub_server.files(REPO) == files


def test_a_card_of_ones_own_stays(made, hub_server):
    publish(made, REPO)
    assert b"6 images" in hub_server.files(REPO)["README.md"]
    hub_server.add(REPO, {"README.md": b"my words"})
    publish(made, REPO)
    assert hub_server.files(REPO)["README.md"] == b"my words"


def test_what_changes_while_it_is_published_fails_at_the_pull(made, hub_server, tmp_path, monkeypatch):
    shard = made / Index.open(made).manifest.spaces["image"].shards[0]
    damaged = shard.read_bytes()[:-1] + b"?"
    real = hub.upload_folder

    def upload(repo, folder, *rest, **how):
        shard.write_bytes(damaged)
        return real(repo, folder, *rest, **how)

    monkeypatch.setattr(hub, "upload_folder", upload)
    publish(made, REPO)
    with pytest.raises(BadIndex, match="not what its manifest names"):
        remote.pull(REPO, tmp_path / "copy")


def test_publishing_leaves_nothing_beside_the_index_and_reads_nothing_twice(made, hub_server, monkeypatch):
    before = sorted(made.parent.iterdir())
    stat = {path: path.stat().st_ctime_ns for path in made.iterdir()}
    publish(made, REPO)
    assert sorted(made.parent.iterdir()) == before
    assert {path: path.stat().st_ctime_ns for path in made.iterdir()} == stat


def test_an_index_of_ones_own_is_not_pulled_over(made, hub_server, capsys):
    publish(made, REPO)
    before = content(made)
    assert main(["pull", REPO, "--out", str(made)]) == 1
    refuse(capsys, "holds another index")
    assert content(made) == before


def test_a_copy_that_was_changed_here_is_not_pulled_over(made, hub_server, tmp_path, capsys):
    publish(made, REPO)
    out = tmp_path / "copy"
    remote.pull(REPO, out)
    assert main(["remove", str(out), "image-0"]) == 0
    capsys.readouterr()
    assert main(["pull", REPO, "--out", str(out)]) == 1
    refuse(capsys, "was changed here")
    assert len(Index.open(out)) == 5


def test_a_changed_copy_that_is_published_elsewhere_is_an_index_like_any_other(made, hub_server, tmp_path):
    publish(made, REPO)
    remote.pull(REPO, tmp_path / "copy")
    assert main(["remove", str(tmp_path / "copy"), "image-0"]) == 0
    address = publish(tmp_path / "copy", "somebody/fork")
    for _ in range(2):  # the second finds it there
        assert remote.pull("somebody/fork", tmp_path / "fork") == address
    assert content(tmp_path / "fork") == content(tmp_path / "copy")


@pytest.mark.parametrize("what", ["*.safetensors", "thumbs/*/*.jpg"])
def test_a_copy_that_lost_a_file_is_mended_by_the_next_pull(made, hub_server, tmp_path, what):
    publish(made, REPO)
    out = tmp_path / "copy"
    remote.pull(REPO, out)
    next(iter(out.glob(what))).unlink()
    remote.pull(REPO, out)
    assert content(out) == content(made)


def test_a_copy_keeps_nothing_of_older_states(made, hub_server, tmp_path):
    out = tmp_path / "copy"
    for seed in range(3):
        scene(80 + seed).save(made.parent / "pictures" / f"{80 + seed}.png")
        update(made, device="cpu")
        publish(made, REPO)
        remote.pull(REPO, out)
    index = Index.open(out)
    assert {path.name for path in out.iterdir()} == {"manifest.json", "thumbs", *index.manifest.files}
    assert len(list(out.glob("thumbs/*/*.jpg"))) == len(index.thumbs())


def test_a_newer_state_that_cannot_be_used_leaves_the_copy_in_use(made, hub_server):
    publish(made, REPO)
    address = f"hf://datasets/{REPO}"
    folder = remote.local_copy(address)
    manifest = json.loads(hub_server.files(REPO)["manifest.json"])
    manifest["spaces"]["image"]["shards"] *= 2  # whole files that do not fit
    manifest["digest"] = manifest_digest(manifest)
    hub_server.add(REPO, {"manifest.json": json.dumps(manifest).encode()})
    with pytest.warns(UserWarning, match="existing copy"):
        assert remote.local_copy(address) == folder
    assert content(folder) == content(made)


def replaced_thumbs(server, rows):
    """Publish other thumbnails under the old names."""
    files = server.files(REPO)
    manifest = json.loads(files["manifest.json"])
    (name,) = manifest["thumbs"]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows(pq.read_table(io.BytesIO(files[name])).to_pylist())), out)
    manifest["files"][name]["sha256"] = hashlib.sha256(out.getvalue()).hexdigest()
    manifest["digest"] = manifest_digest(manifest)
    server.add(REPO, {name: out.getvalue(), "manifest.json": json.dumps(manifest).encode()})


def test_huge_thumbnails_are_not_unpacked_and_strange_ones_not_kept(made, hub_server, tmp_path):
    publish(made, REPO)
    replaced_thumbs(hub_server, lambda rows: [*rows, {"digest": "x", "jpeg": b"<html><script>"}])
    remote.pull(REPO, tmp_path / "copy")
    assert len(list((tmp_path / "copy").glob("thumbs/*/*"))) == 6
    replaced_thumbs(hub_server, lambda rows: [*rows, {"digest": "x", "jpeg": bytes(5_000_000)}])
    with pytest.raises(BadIndex, match="thumbnails over"):
        remote.pull(REPO, tmp_path / "other")


def test_an_address_is_pulled_as_it_was_printed(made, hub_server, tmp_path, capsys):
    address = publish(made, REPO)
    assert main(["pull", address, "--out", str(tmp_path / "copy")]) == 0
    assert capsys.readouterr().out.strip() == address

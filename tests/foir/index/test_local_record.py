"""An index's folder says nothing about this machine: where images lie and which database is asked is recorded here."""

import json
import shutil

import pytest

from foir import BadIndex, Index, Unavailable
from foir.index import local_record
from foir.index.format import MANIFEST
from foir.index.loader import open_index
from foir.index.manifest import manifest_digest, read_manifest
from index_build.pipeline import Plan, build
from index_build.update import add, update
from tests.conftest import adopt, draw, scene


@pytest.fixture
def index(tmp_path):
    build(Plan(draw(tmp_path / "pictures", 3), tmp_path / "index", "toy", device="cpu"))
    return tmp_path / "index"


def signed_again(folder, **keys):
    """Change a manifest as a stranger would, who signs it too."""
    manifest = json.loads((folder / MANIFEST).read_text()) | keys
    (folder / MANIFEST).write_text(json.dumps(manifest | {"digest": manifest_digest(manifest)}))


def test_a_built_index_knows_its_folder_and_its_manifest_does_not(index, tmp_path):
    opened = Index.open(index)
    root = (tmp_path / "pictures").resolve()
    assert (opened.root, opened.picture(opened.item(0))) == (root, root / "00.png")
    assert str(tmp_path) not in (index / MANIFEST).read_text()


@pytest.mark.parametrize("root", ["/", "../pictures", "..", 7, None, "a\0b"])
def test_a_folder_that_a_strangers_manifest_names_is_neither_shown_nor_indexed(index, tmp_path, root):
    """Of format 1, whose manifests held the folder."""
    stranger = shutil.copytree(index, tmp_path / "stranger")
    for keys in ({"root": root}, {"root": root, "format": 1}):
        signed_again(stranger, **keys)
        opened = Index.open(stranger)
        assert opened.root is None and opened.picture(opened.item(0)) == opened.thumb(opened.item(0))
        for change in (update, lambda out: add(out, [tmp_path / "pictures"])):
            with pytest.raises(Unavailable, match="--root FOLDER"):
                change(stranger)


def test_another_index_in_the_same_place_inherits_nothing(index):
    signed_again(index, next_id=100)
    assert Index.open(index).root is None


def test_a_moved_index_is_told_its_folder_once(index, tmp_path):
    moved = index.rename(tmp_path / "moved")
    scene(9).save(tmp_path / "pictures" / "new.png")
    with pytest.raises(Unavailable, match=f"foir index update {moved} --root FOLDER"):
        update(moved)
    assert update(moved, root=tmp_path / "pictures").added == ("new.png",)
    assert update(moved).added == () and Index.open(moved).root == (tmp_path / "pictures").resolve()


def test_an_index_of_format_1_with_changes_keeps_its_folder_once_it_is_named(index, tmp_path):
    raw = json.loads((index / MANIFEST).read_text())
    space = raw["spaces"]["image"]
    space |= {"probe": space.pop("reference_feature"), "way": ""}
    signed_again(index, spaces=raw["spaces"], format=1)
    scene(9).save(tmp_path / "pictures" / "new.png")
    assert update(index, root=tmp_path / "pictures").added == ("new.png",)
    scene(10).save(tmp_path / "pictures" / "newer.png")
    assert update(index).added == ("newer.png",) and Index.open(index).root is not None


def test_a_folder_that_is_known_may_lose_all_its_old_images(index, tmp_path):
    for number in range(3):
        (tmp_path / "pictures" / f"{number:02}.png").unlink()
        scene(20 + number).save(tmp_path / "pictures" / f"another {number}.png")
    assert len(update(index, root=tmp_path / "pictures").added) == 3


def test_a_folder_with_none_of_the_images_is_refused_before_all_are_dropped(index, tmp_path):
    adopt(index, None)
    other = tmp_path / "other"
    other.mkdir()
    scene(9).save(other / "else.png")
    with pytest.raises(Unavailable, match="holds none of the images"):
        update(index, root=other)
    assert len(Index.open(index)) == 3 and Index.open(index).root is None


def test_a_kill_between_record_and_manifest_leaves_both_states_known(index, tmp_path, monkeypatch):
    before = read_manifest(index)
    after = before.model_copy(update={"next_id": 50})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("foir.index.writer.write_manifest", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        local_record.commit(index, after, tmp_path / "pictures")
    assert Index.open(index).root is not None and read_manifest(index) == before
    local_record.commit(index, after, tmp_path / "pictures")
    assert Index.open(index).root is not None and read_manifest(index).next_id == 50


def test_an_index_is_built_where_nothing_can_be_recorded(tmp_path, monkeypatch):
    (tmp_path / "state").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.warns(UserWarning, match="XDG_STATE_HOME"):
        build(Plan(draw(tmp_path / "pictures", 2), tmp_path / "index", "toy", device="cpu"))
    assert len(Index.open(tmp_path / "index")) == 2 and Index.open(tmp_path / "index").root is None


def test_no_database_of_a_strangers_is_made_or_asked(index, tmp_path, monkeypatch):
    manifest = json.loads((index / MANIFEST).read_text())
    rejected = manifest["rejected"]
    stranger, victim = tmp_path / "stranger", tmp_path / "victim.db"
    stranger.mkdir()
    shutil.copy(index / rejected, stranger / rejected)
    facts = manifest["spaces"]["image"] | {"shards": [], "shape": [48]}
    store = {"uri": str(victim), "collection": "foir_1"}
    kept = {"format": 2, "rejected": rejected, "files": {rejected: manifest["files"][rejected]}, "count": 3}
    (stranger / MANIFEST).write_text("{}")
    signed_again(stranger, **kept, spaces={"image": facts}, store=store)
    asked: list[str] = []
    monkeypatch.setattr("foir.index.milvus_client.connect", asked.append)
    with pytest.raises(BadIndex, match="MILVUS_URI"):
        open_index(stranger)
    assert asked == [] and not victim.exists()


def test_a_state_folder_that_is_full_costs_no_index_its_folder(index, tmp_path, monkeypatch):
    scene(9).save(tmp_path / "pictures" / "new.png")
    with monkeypatch.context() as patch, pytest.raises(Unavailable, match="XDG_STATE_HOME"):
        patch.setattr(local_record, "write", lambda *args: (_ for _ in ()).throw(Unavailable("Set XDG_STATE_HOME.")))
        update(index)
    assert Index.open(index).root is not None and update(index).added == ("new.png",)

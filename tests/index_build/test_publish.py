"""What publishing leaves at home."""

import io
import json

import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.ExifTags import IFD

from foir.index import remote
from index_build.cli import main
from index_build.pipeline import Plan, build
from index_build.publish import publish
from index_build.sources import Metadata
from tests import standin_hub
from tests.conftest import draw, scene

hub_server = standin_hub.hub
REPO = "somebody/an-index"
SECRETS = ("holidays with Ann", "IMG_1234", "pass:word", "my camera", "51.5", "not for you", "a-host", "a tag")


@pytest.fixture
def private(tmp_path, monkeypatch):
    """An index of pictures whose names, comments, EXIF and sources are nobody's business."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    folder = draw(tmp_path / "pictures", 2) / SECRETS[0]
    folder.mkdir()
    exif = Image.Exif()
    exif[0x010F] = SECRETS[3]
    exif.get_ifd(IFD.GPSInfo)[1] = SECRETS[4]
    exif[0x013C], exif[0x9C9E] = SECRETS[6], SECRETS[7].encode("utf-16-le")
    scene(7).save(folder / f"{SECRETS[1]}.jpg", exif=exif, comment=SECRETS[5])
    (folder / f"{SECRETS[1]} broken.jpg").write_bytes(b"junk")
    name = f"{SECRETS[0]}/{SECRETS[1]}.jpg"
    notes = {
        name: Metadata("a scene", f"https://user:{SECRETS[2]}@host.example/x", "MIT"),
        "00.png": Metadata(source="immich://a-host"),
    }
    build(Plan(folder.parent, tmp_path / "index", "toy", heads=True, device="cpu", metadata=notes))
    return tmp_path / "index"


def texts(files):
    """Everything that a repository says: bytes of its files, and cells of its tables."""
    for name, data in files.items():
        yield data.decode("latin-1")
        if name.endswith(".parquet"):
            yield json.dumps(pq.read_table(io.BytesIO(data)).to_pylist(), default=repr)


def test_no_name_size_time_hash_credential_or_comment_is_published(private, hub_server):
    publish(private, REPO)
    files = hub_server.files(REPO)
    everything = "\n".join(texts(files))
    for secret in (*SECRETS, str(private.parent), "user:"):
        assert secret not in everything, secret
    (items,) = (pq.read_table(io.BytesIO(data)) for name, data in files.items() if name.endswith("-items.parquet"))
    rows = items.to_pylist()
    assert [row["file"] for row in rows] == [f"image-{row['id']}" for row in rows]
    assert all(row[column] is None for row in rows for column in ("bytes", "modified", "content", "taken", "camera"))
    assert [row["source"] for row in rows if row["source"]] == ["https://host.example/x"]
    assert b"" in [data for name, data in files.items() if name.endswith("-rejected.jsonl")]


def test_names_are_published_if_asked_for_and_nothing_else(private, hub_server, tmp_path):
    assert main(["publish", str(private), "--repo", REPO, "--keep-paths"]) == 0
    everything = "\n".join(texts(hub_server.files(REPO)))
    assert SECRETS[0] in everything and f"{SECRETS[1]} broken.jpg" in everything
    assert not any(secret in everything for secret in SECRETS[2:])
    remote.pull(REPO, tmp_path / "copy")


@pytest.mark.parametrize(("options", "private_"), [([], True), (["--private"], True), (["--no-private"], False)])
def test_a_new_repository_is_private_unless_told_otherwise(private, monkeypatch, options, private_):
    said = []
    monkeypatch.setattr("index_build.publish.publish", lambda *args, **more: said.append(more["private"]))
    assert main(["publish", str(private), "--repo", REPO, *options]) == 0
    assert said == [private_]


def test_a_space_is_private_unless_told_otherwise(monkeypatch):
    said = []
    monkeypatch.setattr("index_build.deploy_space.deploy", lambda *args, **more: said.append(more["private"]))
    assert main(["deploy-space", "--repo", REPO]) == 0 and main(["deploy-space", "--repo", REPO, "--no-private"]) == 0
    assert said == [True, False]

"""The files of an index: names, tables, digests. docs/format.md describes them; `foir.index.manifest` lists them.

manifest.json               the only file that is ever replaced
<hash>.safetensors          a shard of a space's matrix, memory-mapped
<hash>-heads.safetensors    the same rows' CLS head outputs z [n, h, d_k] and residuals [n, d]
<hash>-regions.safetensors  the same rows' region vectors, where there are any
<hash>-regions.usearch      a graph over all of them, where they are many
<hash>-items.parquet        one row an image, in the order of the matrix
<hash>-objects.parquet      known objects of the images, where there are any
<hash>-rejected.jsonl       files that were left out, with reasons
thumbs/ab/HASH.jpg          named by content; checked when served
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import pyarrow as pa

from foir.errors import BadIndex, Unavailable, describe_os_error

FORMAT: Final = 2
MANIFEST = "manifest.json"
MAX_SPACES = 16
CONTENT_NAME = re.compile(
    r"[0-9a-f]{32}(\.safetensors|-(heads|regions)\.safetensors|-regions\.usearch|-(items|objects|thumbs)\.parquet|-rejected\.jsonl)"
)
OURS = re.compile(rf"(manifest\.json|{CONTENT_NAME.pattern})(\.\d+(\.\d+)?\.part)?")
OUR_THUMBS = re.compile(r"thumbs/[0-9a-f]{2}/[0-9a-f]{64}\.jpg(\.\d+\.\d+\.part)?")
ITEM_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("file", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("caption", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("thumb", pa.string()),
        ("bytes", pa.int64()),
        ("modified", pa.int64()),
        # since format 2
        ("content", pa.string()),
        ("taken", pa.int64()),
        ("taken_offset", pa.int32()),
        ("taken_from", pa.string()),
        ("camera", pa.string()),
        ("lens", pa.string()),
        ("rating", pa.int32()),
        ("keywords", pa.string()),
        ("time", pa.float64()),
    ]
)
OBJECT_SCHEMA = pa.schema(
    [
        ("item", pa.int64()),
        ("x0", pa.float32()),
        ("y0", pa.float32()),
        ("x1", pa.float32()),
        ("y1", pa.float32()),
        ("mask", pa.string()),
        ("category", pa.string()),
        ("instance", pa.string()),
        ("name", pa.string()),
        ("source", pa.string()),
    ]
)
BOX = OBJECT_SCHEMA.names[1:5]
OBJECT_SCHEMA_1 = pa.schema(  # of format 1, where a box was a list
    [OBJECT_SCHEMA.field("item"), ("box", pa.list_(pa.float32(), 4)), *list(OBJECT_SCHEMA)[5:]]
)


def thumb_name(digest: str) -> str:
    """Path of a thumbnail in an index."""
    return f"thumbs/{digest[:2]}/{digest}.jpg"


def verified_bytes(folder: Path, name: str) -> bytes:
    """The bytes of a file of an index, checked against the hash in its name.

    Raises:
        BadIndex: It is missing or damaged.
        Unavailable: It cannot be read.
    """
    try:
        data = _regular(folder / name).read_bytes()
    except OSError as error:
        raise _unreadable(folder, name, error) from error
    if hashlib.sha256(data).hexdigest()[:32] != name[:32]:
        raise damaged(folder, name)
    return data


def verify_file(folder: Path, name: str, sha256: str) -> None:
    """Check one file against its digest.

    Raises:
        BadIndex: It is missing or damaged.
        Unavailable: It cannot be read.
    """
    try:
        actual = digest(folder / name)
    except OSError as error:
        raise _unreadable(folder, name, error) from error
    if actual != sha256:
        raise damaged(folder, name)


def damaged(folder: Path, name: str) -> BadIndex:
    """The error of a file whose bytes are not those that were written."""
    return BadIndex(f"The file {name} of the index {folder} is damaged: build the index again, or pull it again.")


def _unreadable(folder: Path, name: str, error: OSError) -> BadIndex | Unavailable:
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return BadIndex(f"The index {folder} lacks its file {name}: build it again, or pull it again.")
    return Unavailable(describe_os_error(f"The file {name} of {folder} cannot be read", error))


def digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        OSError: It cannot be read, or is a pipe or a device.
    """
    with _regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_linked_thumbs(folder: Path) -> bool:
    """Whether the folder of thumbnails is a link: what is removed there would be removed elsewhere."""
    return (folder / "thumbs").is_symlink()


def _regular(path: Path) -> Path:
    """The path, if it is a file; reading a pipe would wait forever, and a device may never end."""
    if path.exists() and not path.is_file():
        raise IsADirectoryError(f"{path} is no file")
    return path


def is_thumb_intact(folder: Path, expected: str) -> bool:
    """Whether the thumbnail of this digest exists and has it. A link to some other file does not count."""
    path = folder / thumb_name(expected)
    try:
        return not path.is_symlink() and digest(path) == expected
    except OSError:
        return False

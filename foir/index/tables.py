"""Tables of an index. They may come from a stranger: a few bytes of parquet can become gigabytes, so all is bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foir.errors import BadIndex
from foir.index.format import BOX, ITEM_SCHEMA, OBJECT_SCHEMA, OBJECT_SCHEMA_1, verified_bytes
from foir.index.records import MAX_SIDE
from foir.photo_facts import MAX_SECONDS

REQUIRED_ITEM_COLUMNS = ("id", "file", "width", "height", "thumb")
REQUIRED_OBJECT_COLUMNS = ("item", *BOX, "category", "name")
MAX_OBJECTS_PER_IMAGE = 1000  # on average; an index with more is refused
MAX_ID = 2**50  # and more ids than any index ever gives
MAX_PIXELS = 2**28  # of an image: a mask of it is decoded whole
MAX_CHARACTERS = {
    "file": 4096,
    "caption": 4096,
    "source": 1024,
    "licence": 1024,
    "thumb": 64,
    "content": 64,
    "taken_from": 16,
    "camera": 256,
    "lens": 256,
    "keywords": 4096,
    "mask": 2**20,
    "category": 1024,
    "instance": 1024,
    "name": 1024,
}
CUT = MAX_CHARACTERS.keys() - {"file", "thumb", "content", "mask"}  # longer texts are cut
ROW_BYTES, SPARE_BYTES = 2**14, 2**26  # of text a row of a table, on average, and for all
EXPANSION = 32  # bytes of text for a byte of the file, beyond those
REJECTED_BYTES, MAX_REJECTED = 2**25, 100_000
CODECS = {"ZSTD", "UNCOMPRESSED"}
HASH = r"^[0-9a-f]{64}$"


def read_items(folder: Path, name: str, rows: int) -> pa.Table:
    """The table of images.

    Raises:
        BadIndex: It is damaged, or has another number of rows than the matrices.
        ValueError: A value is missing, too long or out of range, or two images have one id.
    """
    file = _open(folder, name)
    count = file.metadata.num_rows
    if count != rows:
        raise BadIndex(f"The index {folder} has {count} items but {rows} vectors.")
    table = _read(file, ITEM_SCHEMA, rows * ROW_BYTES + _size(folder, name) * EXPANSION)
    if any(table[column].null_count for column in REQUIRED_ITEM_COLUMNS):
        raise ValueError("images without a required value")
    ids, width, height = (table[column].to_numpy() for column in ("id", "width", "height"))
    is_ordered = bool((np.diff(ids) > 0).all())  # ids of a build ascend, which is quickly checked
    if rows == 0:
        return table
    if ids.min() < 0 or ids.max() >= MAX_ID or not (is_ordered or len(np.unique(ids)) == rows):
        raise ValueError("two images with one id, or one out of range")
    sides = np.stack([width, height]).astype(np.int64)
    if sides.min() < 1 or sides.max() > MAX_SIDE or sides.prod(0).max() > MAX_PIXELS:
        raise ValueError("an image without pixels, or with too many")
    if pc.any(pc.greater(pc.abs_checked(table["taken"]), MAX_SECONDS)).as_py():
        raise ValueError("a date that is none")
    if pc.all(pc.is_finite(table["time"])).as_py() is False:
        raise ValueError("a time that is no number")
    _check_hashes(table)
    return table


def read_objects(folder: Path, name: str | None, images: int) -> pa.Table:
    """The table of known objects, empty where there is none.

    Raises:
        BadIndex: It is damaged.
        ValueError: It has an implausible number of rows, or a value is missing, too long or no number.
    """
    if name is None:
        return OBJECT_SCHEMA.empty_table()
    file = _open(folder, name)
    if file.metadata.num_rows > MAX_OBJECTS_PER_IMAGE * (images + 1):
        raise ValueError("too many objects")
    is_old = "box" in file.schema_arrow.names
    schema = OBJECT_SCHEMA_1 if is_old else OBJECT_SCHEMA
    table = _read(file, schema, file.metadata.num_rows * ROW_BYTES + _size(folder, name) * EXPANSION)
    if is_old:
        table = _with_corners(table)
    if any(table[column].null_count for column in REQUIRED_OBJECT_COLUMNS):
        raise ValueError("objects without a required value")
    x0, y0, x1, y1 = (table[corner].to_numpy() for corner in BOX)
    if not all(np.isfinite(corner).all() for corner in (x0, y0, x1, y1)) or (x0 > x1).any() or (y0 > y1).any():
        raise ValueError("a box that is none")
    return table


def is_flat(folder: Path, name: str) -> bool:
    """Whether a table has no lists, which a reader unfolds before it can count them.

    Raises:
        BadIndex: It is damaged.
    """
    return not any(pa.types.is_nested(kind) for kind in _open(folder, name).schema_arrow.types)


def _with_corners(table: pa.Table) -> pa.Table:
    """A table of format 1 with a column for each corner of the boxes."""
    corners = table["box"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(table), 4)
    columns = {name: table[name] for name in table.column_names} | dict(zip(BOX, corners.T, strict=True))
    return pa.table([columns[name] for name in OBJECT_SCHEMA.names], schema=OBJECT_SCHEMA)


def read_rejected(folder: Path, name: str) -> list[dict[str, str]]:
    """`file` and `reason` of every file that was left out.

    Raises:
        BadIndex: The list is damaged.
        ValueError: It is too long, or an entry is no such pair of texts.
    """
    if (folder / name).stat().st_size > REJECTED_BYTES:
        raise ValueError("too long a list of files that were left out")
    data = verified_bytes(folder, name)
    if data.count(b"\n") > MAX_REJECTED + 1:
        raise ValueError("too long a list of files that were left out")
    entries = [json.loads(line) for line in data.decode().split("\n") if line]
    for entry in entries:
        if not (isinstance(entry, dict) and entry.keys() == {"file", "reason"}):
            raise ValueError("an entry that is no pair of file and reason")
        "".join(entry.values()).encode()  # both are texts, of whole characters
    return entries


def as_table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table whose texts are what a reader accepts: short enough, and without null characters."""
    table = pa.Table.from_pylist(rows, schema=schema)
    for place, column in enumerate(schema):
        if column.name in CUT:
            whole = pc.replace_substring(table[column.name], "\0", "")
            table = table.set_column(place, column, _cut(whole, column.name))
        elif column.name == "mask":
            fits = pc.less_equal(pc.utf8_length(table["mask"]), MAX_CHARACTERS["mask"])
            table = table.set_column(place, column, pc.if_else(fits, table["mask"], None))
    return table


def _cut(texts: pa.Array | pa.ChunkedArray, name: str) -> pa.Array | pa.ChunkedArray:
    return pc.utf8_slice_codeunits(texts, 0, MAX_CHARACTERS[name])


def _open(folder: Path, name: str) -> pq.ParquetFile:
    """A table whose bytes are checked, with its texts as dictionaries: one long text can stand in every row."""
    source = pa.BufferReader(verified_bytes(folder, name))
    try:
        schema = pq.read_schema(source)
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        source.seek(0)
        return pq.ParquetFile(source, read_dictionary=texts)
    except (pa.ArrowException, OSError) as error:
        raise BadIndex(f"The table {name} of the index {folder} cannot be read: build the index again.") from error


def _read(file: pq.ParquetFile, schema: pa.Schema, text_bytes: int) -> pa.Table:
    """The columns of a schema, null where the file lacks one, once their texts are known to be short enough."""
    meta = file.metadata
    chunks = [meta.row_group(g).column(c) for g in range(meta.num_row_groups) for c in range(meta.num_columns)]
    if any(chunk.compression not in CODECS for chunk in chunks):
        raise ValueError("a table of another compression")
    stored = {field.name: field.type for field in file.schema_arrow}
    if any(pa.types.is_nested(kind) and (name, kind) not in _columns(schema) for name, kind in stored.items()):
        raise ValueError("a list where none belongs")
    try:
        table = file.read([name for name in schema.names if name in stored], use_threads=False)
    except OSError as error:  # that is what pages that cannot be unpacked raise
        raise ValueError("a table that cannot be read") from error
    table.validate(full=True)
    columns, remaining = [], text_bytes + SPARE_BYTES
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.chunked_array([pa.nulls(len(table), field.type)]))
            continue
        column = table[field.name]
        if pa.types.is_dictionary(column.type):
            if schema is ITEM_SCHEMA and field.name in CUT:  # early versions did not cut captions
                column = pa.chunked_array(
                    [pa.DictionaryArray.from_arrays(c.indices, _cut(c.dictionary, field.name)) for c in column.chunks],
                    column.type,
                )
            remaining -= _text_bytes(column, MAX_CHARACTERS[field.name])
            if remaining < 0:
                raise ValueError("too much text")
        columns.append(column.cast(field.type))
    return pa.table(columns, schema=schema)


def _size(folder: Path, name: str) -> int:
    return (folder / name).stat().st_size


def _columns(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    return [(field.name, field.type) for field in schema]


def _text_bytes(column: pa.ChunkedArray, limit: int) -> int:
    """Bytes of a column's texts.

    Raises:
        ValueError: One has more than `limit` characters.
    """
    total = 0
    for chunk in column.chunks:
        texts = chunk.dictionary
        if (pc.max(pc.utf8_length(texts)).as_py() or 0) > limit or pc.any(pc.match_substring(texts, "\0")).as_py():
            raise ValueError("a text that is too long, or holds a null character")
        lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
        total += pc.sum(lengths.take(chunk.indices)).as_py() or 0
    return total


def _check_hashes(table: pa.Table) -> None:
    for name in ("thumb", "content"):
        if pc.all(pc.match_substring_regex(table[name], HASH)).as_py() not in (True, None):
            raise ValueError("a hash that is none")

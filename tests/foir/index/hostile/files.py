"""Files of tensors that lie about themselves, and the list of what was left out."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .draft import Draft, tensor_bytes, tensor_file

Attack = Callable[[Draft], None]
WIDTH = 48  # of the stand-in's vectors
DEEP = b"[" * 100_000 + b"]" * 100_000


def _bytes(kind: str, data: bytes) -> Attack:
    return lambda draft: draft.replace(kind, data)


def _header(kind: str, data: bytes = bytes(32 * WIDTH * 2), **facts: Any) -> Attack:
    """A file of vectors with other facts in its header."""
    known = {"dtype": "F16", "shape": (32, WIDTH), "data_offsets": (0, 32 * WIDTH * 2)} | facts
    return _bytes(kind, tensor_file({"vectors": known}, data))


def _ones(rows: int = 32) -> np.ndarray:
    return np.eye(rows, WIDTH, dtype=np.float16)


def _row(value: float, row: int = 3) -> np.ndarray:
    """Vectors with one row of a value."""
    vectors = _ones()
    vectors[row] = value
    return vectors


def _vectors(vectors: np.ndarray) -> Attack:
    return lambda draft: draft.tensors("vectors", {"vectors": vectors})


def _heads(z: Sequence[int] = (32, 2, 4), residual: Sequence[int] = (32, 8), fill: float = 1.0) -> Attack:
    made = {"z": np.full(z, fill, np.float16), "residual": np.full(residual, fill, np.float16)}
    return lambda draft: draft.tensors("heads", made)


def _rows_without_columns(rows: int) -> Attack:
    """Both shards claim vectors of no column, as many as fit into no bytes."""
    facts: Mapping[str, Any] = {"dtype": "F16", "shape": (rows, 0), "data_offsets": (0, 0)}

    def attack(draft: Draft) -> None:
        draft.replace("vectors", tensor_file({"vectors": facts}))
        draft.space["reference_feature"], draft.space["shards"], draft.space["heads"] = (
            [],
            draft.space["shards"][:1],
            [],
        )

    return attack


def _regions(**tensors: np.ndarray) -> Attack:
    """Two regions an image, with other tensors in their file."""

    def attack(draft: Draft) -> None:
        names = []
        for count in (32, 2):
            made = {
                "vectors": np.resize(_ones(), (2 * count, WIDTH)),
                "boxes": np.tile(np.array([0, 0, 65_535, 65_535], np.uint16), (2 * count, 1)),
                "starts": np.arange(0, 2 * count + 1, 2, dtype=np.int32),
            } | tensors
            names.append(draft.add("-regions.safetensors", tensor_bytes(made)))
        draft.manifest["regions"] = {"recipe": "crops", "shards": names}

    return attack


def _starts(*values: int) -> Attack:
    return _regions(starts=np.resize(np.array(values, np.int32), 33))


def _sparse(draft: Draft) -> None:
    """A file that is a hole of 64 MB behind a header: it costs nothing to send, and as much to read."""
    rows = 2**25 // WIDTH
    data = tensor_file(
        {"vectors": {"dtype": "F16", "shape": (rows, WIDTH), "data_offsets": (0, rows * WIDTH * 2)}},
        bytes(rows * WIDTH * 2),
    )
    draft.replace("vectors", data)


def _misaligned(draft: Draft) -> None:
    text = json.dumps(
        {"vectors": {"dtype": "F16", "shape": (32, WIDTH), "data_offsets": (0, 32 * WIDTH * 2)}}, separators=(",", ":")
    ).encode()
    draft.replace("vectors", tensor_file(text + b" " * (1 - len(text) % 2), _ones().tobytes()))


END = 32 * WIDTH * 2
ATTACKS: dict[str, Attack] = {
    "nothing": _bytes("vectors", b""),
    "length beyond the file": _bytes("vectors", tensor_file(b"{}", length=1000)),
    "length beyond any number": _bytes("vectors", b"\xff" * 8 + bytes(100)),
    "no length": _bytes("vectors", bytes(8)),
    "header that is no JSON": _bytes("vectors", tensor_file(b"{{")),
    "header as a list": _bytes("vectors", tensor_file([1])),
    "header that is deep": _bytes("vectors", tensor_file(DEEP)),
    "header of 100 MB of blanks": lambda draft: draft.replace("vectors", tensor_file(b"{}" + b" " * 100_000_000)),
    "header of 50 MB of lists": lambda draft: draft.replace(
        "vectors", tensor_file(b'{"a":[' + b"[]," * 16_000_000 + b"1]}")),
    "header with a long key": lambda draft: draft.replace("vectors", tensor_file(b'{"' + b"a" * 50_000_000 + b'":1}')),
    "header of half a character": _bytes("vectors", tensor_file({"\ud800": 1})),
    "a tensor twice": _bytes("vectors", tensor_file(b'{"vectors": 1, "vectors": 2}')),
    "no vectors": _bytes("vectors", tensor_file({})),
    "vectors as null": _bytes("vectors", tensor_file({"vectors": None})),
    "thousands of tensors": _bytes("vectors", tensor_file(
        {f"v{i}": {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)})),
    "unknown dtype": _header("vectors", dtype="I64"),
    "dtype as a list": _header("vectors", dtype=["F16"]),
    "dtype of other bytes": _header("vectors", dtype="F32"),
    "dtype of whole numbers": _vectors(np.ones((32, WIDTH), np.int8)),
    "dtype of doubles": _vectors(_ones().astype(np.float64)),
    "a dimension of 2**40": _header("vectors", shape=(2**40, WIDTH)),
    "a dimension of 2**70": _header("vectors", shape=(2**70, WIDTH)),
    "a dimension of 10**400": _header("vectors", shape=(10**400, WIDTH)),
    "a dimension below zero": _header("vectors", shape=(-1, WIDTH)),
    "a fraction of a dimension": _header("vectors", shape=(32.0, WIDTH)),
    "a true dimension": _header("vectors", shape=(True, WIDTH), data_offsets=(0, WIDTH * 2)),
    "dimensions as text": _header("vectors", shape="32"),
    "a thousand dimensions": _header("vectors", shape=(1,) * 1000 + (32, WIDTH)),
    "no dimension": _header("vectors", shape=(), data_offsets=(0, 2)),
    "one dimension": _header("vectors", shape=(32 * WIDTH,)),
    "three dimensions": _header("vectors", shape=(32, 6, 8)),
    "zero columns": _header("vectors", shape=(32, 0), data_offsets=(0, 0)),
    "zero rows": _header("vectors", shape=(0, WIDTH), data_offsets=(0, 0)),
    "2**40 rows of no column": _rows_without_columns(2**40),
    "34 rows of no column": _rows_without_columns(34),
    "offsets beyond the file": _header("vectors", data_offsets=(10**9, 10**9 + END)),
    "offsets before the file": _header("vectors", data_offsets=(-END, 0)),
    "offsets in the header": _header("vectors", data_offsets=(-40, END - 40)),
    "offsets swapped": _header("vectors", data_offsets=(END, 0)),
    "offsets as fractions": _header("vectors", data_offsets=(0.0, float(END))),
    "offsets as texts": _header("vectors", data_offsets=("0", str(END))),
    "three offsets": _header("vectors", data_offsets=(0, END, END)),
    "no offsets": _header("vectors", data_offsets=None),
    "offsets that overlap": _bytes("heads", tensor_file({
        "z": {"dtype": "F16", "shape": (32, 2, 4), "data_offsets": (0, 512)},
        "residual": {"dtype": "F16", "shape": (32, 8), "data_offsets": (100, 612)}}, bytes(612))),
    "bytes behind the tensors": _header("vectors", data=bytes(END + 100_000)),
    "misaligned": _misaligned,
    "a row of NaN": _vectors(_row(np.nan)),
    "one NaN": _vectors(
        np.where(np.arange(32 * WIDTH).reshape(32, WIDTH) == 777, np.float16(np.nan), _ones())),
    "a row of Inf": _vectors(_row(np.inf)),
    "a row of -Inf": _vectors(_row(-np.inf)),
    "a row of zeros": _vectors(_row(0.0)),
    "all zeros": _vectors(np.zeros((32, WIDTH), np.float16)),
    "a row of the largest numbers": _vectors(_row(65504.0)),
    "a long row": _vectors(_row(1.0)),
    "a short row": _vectors(_row(1e-4)),
    "floats beyond any sum": _vectors(np.full((32, WIDTH), 3e38, np.float32)),
    "another width": _vectors(np.eye(32, 40, dtype=np.float16)),
    "another number of rows": _vectors(_ones(33)),
    "a hole": _sparse,
    "regions": _regions(),
    "regions of NaN": _regions(vectors=np.full((64, WIDTH), np.nan, np.float16)),
    "regions of another width": _regions(vectors=np.ones((64, 3), np.float16)),
    "regions without vectors": _regions(vectors=np.ones((0, WIDTH), np.float16)),
    "regions in one dimension": _regions(vectors=np.ones(64, np.float16)),
    "regions of boxes that are swapped": _regions(boxes=np.tile(np.array([9, 9, 1, 1], np.uint16), (64, 1))),
    "regions of three corners": _regions(boxes=np.ones((64, 3), np.uint16)),
    "regions of boxes of fractions": _regions(boxes=np.full((64, 4), np.nan, np.float32)),
    "regions that start below zero": _starts(-1, 2, 4),
    "regions that start beyond the end": _starts(0, 2**31 - 1),
    "regions that start again": _starts(0, 2, 4, 2),
    "regions without a start": _regions(starts=np.zeros(0, np.int32)),
    "regions of no image": _starts(0),
    "heads of other rows": _heads((31, 2, 4), (31, 8)),
    "heads of another shape": _heads((32, 3, 5), (32, 9)),
    "heads without heads": _heads((32, 0, 4), (32, 8)),
    "heads of no width": _heads((32, 2, 0), (32, 0)),
    "heads in two dimensions": _heads((32, 8), (32, 8)),
    "heads in one dimension": _heads((32,), (32,)),
    "heads of NaN": _heads(fill=np.nan),
    "heads of Inf": _heads(fill=np.inf),
    "heads of the largest numbers": _heads(fill=65504.0),
    "heads without residual": lambda draft: draft.tensors("heads", {"z": np.ones((32, 2, 4), np.float16)}),
    "vectors as heads": lambda draft: draft.space.update(heads=draft.space["shards"]),
    "heads as vectors": lambda draft: draft.space.update(shards=draft.space["heads"]),
    "rejected of 100 MB": lambda draft: draft.replace(
        "rejected", b'{"file": "' + b"a" * 100_000_000 + b'", "reason": "x"}\n'),
    "rejected of 5 million lines": lambda draft: draft.replace("rejected", b"{}\n" * 5_000_000),
    "rejected that is no JSON": _bytes("rejected", b"file: reason\n"),
    "rejected that is no text": _bytes("rejected", b"\xff\xfe\0\0"),
    "rejected that is deep": _bytes("rejected", DEEP + b"\n"),
    "rejected of numbers": _bytes("rejected", b"1\n2\nNaN\n"),
    "rejected of a huge number": _bytes("rejected", b"9" * 100_000 + b"\n"),
    "rejected of lists": _bytes("rejected", b"[[]]\n"),
    "rejected of null": _bytes("rejected", b'{"file": null, "reason": {}}\n'),
    "rejected without a file": _bytes("rejected", b'{"reason": "x"}\n'),
    "rejected of half a character": _bytes("rejected", b'{"file": "\\ud800", "reason": "\\u001b[2J"}\n'),
    "rejected above": _bytes("rejected", b'{"file": "../../x\\u0000", "reason": ""}\n'),
    "rejected that is a table": lambda draft: draft.replace("rejected", draft.path("items").read_bytes()),
}  # fmt: skip

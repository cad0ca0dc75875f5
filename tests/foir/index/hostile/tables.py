"""Tables that lie, burst or hold what no image can have."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foir.index.format import BOX

from .draft import Draft

Attack = Callable[[Draft], None]
HALF = b"\xed\xa0\x80"  # half a character, as no text holds it


def set_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def first(name: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    """The first row gets a value, of the column's type if it has one."""

    def change(table: pa.Table) -> pa.Table:
        return set_column(table, name, pa.array([value, *table[name].to_pylist()[1:]], table.schema.field(name).type))

    return change


def _first(kind: str, name: str, value: Any) -> Attack:
    return lambda draft: draft.table(kind, first(name, value))


def _column(kind: str, name: str, values: Callable[[int], Any]) -> Attack:
    """Another column for all rows."""
    return lambda draft: draft.table(kind, lambda table: set_column(table, name, pa.array(values(len(table)))))


def _without(kind: str, name: str) -> Attack:
    return lambda draft: draft.table(kind, lambda table: table.drop_columns([name]))


def _bytes(kind: str, data: bytes) -> Attack:
    return lambda draft: draft.replace(kind, data)


def _raw_text(kind: str, name: str, text: bytes) -> Attack:
    """A text that is none: its bytes are no UTF-8."""

    def change(table: pa.Table) -> pa.Table:
        values = [text] * len(table)
        offsets = np.cumsum([0, *map(len, values)]).astype(np.int32)
        array = pa.StringArray.from_buffers(len(table), pa.py_buffer(offsets), pa.py_buffer(b"".join(values)))
        return set_column(table, name, array)

    return lambda draft: draft.table(kind, change, store_schema=False)


def _burst(rows: int, length: int, kind: str = "items", name: str = "caption") -> Attack:
    """A few kilobytes whose texts are gigabytes: one long text, and its number again and again."""

    def attack(draft: Draft) -> None:
        text = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array(["x" * length]))

        def change(table: pa.Table) -> pa.Table:
            many = pa.concat_tables([table] * (rows // len(table) + 1)).slice(0, rows)
            if kind == "items":
                many = set_column(many, "id", pa.array(np.arange(rows)))
            return set_column(many, name, text)

        draft.table(
            kind,
            change,
            compression="zstd",
            column_encoding={"id": "DELTA_BINARY_PACKED"} if kind == "items" else None,
            use_dictionary=[c for c in (name,)],
            dictionary_pagesize_limit=2**30,
        )
        if kind == "items":
            narrow(draft, rows)

    return attack


def narrow(draft: Draft, rows: int) -> None:
    """As many vectors as the table has rows, of one column."""
    draft.tensors("vectors", {"vectors": np.ones((rows, 1), np.float16)})
    draft.space.update(shards=draft.space["shards"][:1], heads=[], reference_feature=[1.0])


def _many(rows: int, columns: int = 0) -> Attack:
    """A great many rows, with vectors for them or with none."""

    def attack(draft: Draft) -> None:
        def change(table: pa.Table) -> pa.Table:
            one = table.slice(0, 1)
            arrays = [pa.repeat(one[name][0], rows) for name in one.column_names]
            return set_column(
                pa.table(dict(zip(one.column_names, arrays, strict=True))), "id", pa.array(np.arange(rows))
            )

        draft.table("items", change)
        if columns:
            narrow(draft, rows)

    return attack


def _objects(rows: int) -> Attack:
    def change(table: pa.Table) -> pa.Table:
        one = table.slice(0, 1)
        return pa.table([pa.repeat(one[name][0], rows) for name in one.column_names], schema=one.schema)

    return lambda draft: draft.table("objects", change)


def _box(*corners: float | None) -> Attack:
    """The box of the first object, in columns of its own."""

    def change(table: pa.Table) -> pa.Table:
        for name, value in zip(BOX, corners, strict=True):
            table = first(name, value)(table)
        return table

    return lambda draft: draft.table("objects", change)


def _boxes_as(values: Sequence[Any], kind: pa.DataType | None = None) -> Attack:
    """Boxes in a list, as in format 1."""

    def change(table: pa.Table) -> pa.Table:
        boxes = pa.array([values] * len(table), kind or pa.list_(pa.float32()))
        return table.drop_columns(list(BOX)).append_column("box", boxes)

    return lambda draft: draft.table("objects", change, store_schema=False)


def _row_count_lie(draft: Draft) -> None:
    """The footer's text is left, its length is not: half the table is cut away."""
    data = draft.path("items").read_bytes()
    draft.replace("items", data[:4] + data[len(data) // 2 :])


def _footer(length: int) -> Attack:
    def attack(draft: Draft) -> None:
        data = draft.path("items").read_bytes()
        draft.replace("items", data[:-8] + length.to_bytes(4, "little") + data[-4:])

    return attack


def _flipped(seed: int, kind: str = "items") -> Attack:
    """Bytes of the table's pages or footer changed here and there."""

    def attack(draft: Draft) -> None:
        data, random = bytearray(draft.path(kind).read_bytes()), np.random.default_rng(seed)
        for place in random.integers(4, len(data) - 8, 3):
            data[place] ^= 1 << int(random.integers(8))
        draft.replace(kind, bytes(data))

    return attack


def _wide(draft: Draft) -> None:
    draft.table(
        "items",
        lambda table: pa.table(
            {**{name: table[name] for name in table.column_names}, **{f"c{i}": table["id"] for i in range(3000)}}
        ),
    )


def _deep_type(draft: Draft) -> None:
    kind: pa.DataType = pa.int32()
    for _ in range(90):
        kind = pa.list_(kind)
    draft.table("items", lambda table: table.append_column("deep", pa.nulls(len(table), kind)), store_schema=False)


def _other_file(kind: str, other: str) -> Attack:
    return lambda draft: draft.replace(kind, draft.path(other).read_bytes())


def _empty_groups(draft: Draft) -> None:
    """Thousands of groups of rows without rows."""
    table, sink = pq.read_table(draft.path("items")), pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema) as writer:
        for _ in range(2000):
            writer.write_table(table.slice(0, 0))
        writer.write_table(table)
    draft.replace("items", sink.getvalue().to_pybytes())


TEXTS = {
    "half a character": None,
    "NUL": "a\0b",
    "an escape": "\x1b]0;owned\x07\x1b[2J\r\n",
    "a script": "<script>1</script>",
    "another direction": "\u202egnp.exe",
    "nothing": " ",
}
NAMES = {
    "above": "../private/secret.png",
    "far above": "../" * 40 + "etc/passwd",
    "absolute": "/etc/passwd",
    "NUL": "a\0.png",
    "nothing": "",
    "a point": ".",
    "two points": "..",
    "a device": "/dev/zero",
    "an escape": "\x1b[2J.png",
    "a line": "a\nb.png",
    "backslashes": "..\\..\\x",
    "a drive": "C:\\x.png",
    "an address": "http://127.0.0.1/x",
}
THUMBS = {
    "a path": "../../private/secret",
    "an absolute path": "/etc/passwd",
    "short": "ab",
    "nothing": "",
    "upper case": "A" * 64,
    "no hex": "g" * 64,
    "long": "a" * 65,
    "NUL": "\0" * 64,
    "points": ".." + "/" * 62,
    "a line": "a" * 64 + "\n",
    "other digits": "\uff11" * 64,
}
SIDES = {"0": 0, "negative": -1, "the largest": 2**31 - 1}
ATTACKS: dict[str, Attack] = {
    "items that are nothing": _bytes("items", b""),
    "items that are no table": _bytes("items", b"PAR1" + bytes(100) + b"PAR1"),
    "items with a short footer": _footer(1),
    "items with a long footer": _footer(2**31 - 1),
    "items cut in half": _row_count_lie,
    "items that are objects": _other_file("items", "objects"),
    "items that are tensors": _other_file("items", "vectors"),
    "objects that are items": _other_file("objects", "items"),
    **{f"items of flipped bits {seed}": _flipped(seed) for seed in range(12)},
    **{f"objects of flipped bits {seed}": _flipped(seed, "objects") for seed in range(6)},
    "no rows": lambda draft: draft.table("items", lambda table: table.slice(0, 0)),
    "a row too few": lambda draft: draft.table("items", lambda table: table.slice(1)),
    "2 million rows": _many(2_000_000),
    "200,000 rows and vectors": _many(200_000, 1),
    "2,000 empty groups": _empty_groups,
    "3,000 columns": _wide,
    "a column in 90 lists": _deep_type,
    "captions of 2 GB in 3 kB": _burst(20_000, 100_000),
    "names of 2 GB in 3 kB": _burst(20_000, 100_000, name="file"),
    "thumbs of 2 GB in 3 kB": _burst(20_000, 100_000, name="thumb"),
    "names of objects of 2 GB in 3 kB": _burst(20_000, 100_000, "objects", "name"),
    "masks of 2 GB in 3 kB": _burst(20_000, 100_000, "objects", "mask"),
    "a caption of 100 MB": lambda draft: draft.table("items", first("caption", "x" * 100_000_000)),
    "a file name of 100 MB": lambda draft: draft.table("items", first("file", "x" * 100_000_000)),
    "a source of 1 MB": _first("items", "source", "x" * 1_000_000),
    **{f"caption with {name}": _first("items", "caption", text) if text else _raw_text("items", "caption", HALF)
       for name, text in TEXTS.items()},
    **{f"no UTF-8 in {name}": _raw_text("items", name, b"\xff\xfe") for name in ("file", "source", "licence", "thumb")},
    "no UTF-8 in names of objects": _raw_text("objects", "name", HALF),
    **{f"file is {name}": _first("items", "file", text) for name, text in NAMES.items()},
    "one file for all": _column("items", "file", lambda rows: ["a.png"] * rows),
    **{f"thumb is {name}": _first("items", "thumb", text) for name, text in THUMBS.items()},
    **{f"{side} is {name}": _first("items", side, value) for side in ("width", "height")
       for name, value in SIDES.items()},
    "all sides the largest": _column("items", "width", lambda rows: pa.array([2**31 - 1] * rows, pa.int32())),
    **{f"no {name}": _without("items", name)
       for name in ("id", "file", "width", "thumb", "caption", "modified", "content")},
    **{f"{name} is null": _first("items", name, None) for name in ("id", "file", "width", "height", "thumb")},
    "ids twice": _first("items", "id", 1),
    "an id below zero": _first("items", "id", -5),
    "the smallest id": _first("items", "id", -(2**63)),
    "the largest id": _first("items", "id", 2**63 - 1),
    "ids beyond any": _column("items", "id", lambda rows: pa.array([2**64 - 1 - i for i in range(rows)], pa.uint64())),
    "ids as texts": _column("items", "id", lambda rows: list(map(str, range(rows)))),
    "ids as fractions": _column("items", "id", lambda rows: [i + 0.5 for i in range(rows)]),
    "ids as NaN": _column("items", "id", lambda rows: [float("nan")] * rows),
    "ids as lists": _column("items", "id", lambda rows: [[i] for i in range(rows)]),
    "ids as dates": _column("items", "id", lambda rows: pa.array(range(rows), pa.timestamp("ns"))),
    "captions as numbers": _column("items", "caption", lambda rows: list(range(rows))),
    "captions as lists": _column("items", "caption", lambda rows: [["a"]] * rows),
    "files as numbers": _column("items", "file", lambda rows: list(range(rows))),
    "widths as texts": _column("items", "width", lambda rows: ["1"] * rows),
    "widths beyond any": _column("items", "width", lambda rows: [2**40] * rows),
    "widths as fractions": _column("items", "width", lambda rows: [float("inf")] * rows),
    **{f"{name} is {value}": _first("items", name, value) for name in ("bytes", "modified")
       for value in (-(2**63), -1, 2**63 - 1)},
    **{f"{name} is {value}": _first("items", name, value) for name in
       ("taken", "taken_offset", "rating", "time") for value in (-(2**31), 2**31 - 1)},
    "the end of time": _first("items", "taken", 2**63 - 1),
    "time is NaN": _first("items", "time", float("nan")),
    "time is Inf": _first("items", "time", float("inf")),
    "keywords at length": _first("items", "keywords", "a\n" * 1_000_000),
    "content that is no hash": _first("items", "content", "../../etc/passwd"),
    "taken from half a character": _raw_text("items", "taken_from", HALF),
    "2 million objects": _objects(2_000_000),
    "20,000 objects of one image": _objects(20_000),
    "an object of no image": _first("objects", "item", 10**12),
    "an object below zero": _first("objects", "item", -1),
    "an object at the end": _first("objects", "item", 2**63 - 1),
    "a box of NaN": _box(float("nan"), 0, 1, 1),
    "a box of Inf": _box(0, 0, float("inf"), float("inf")),
    "a box of -Inf": _box(float("-inf"), float("-inf"), 1, 1),
    "a box outside": _box(10_000, 10_000, 20_000, 20_000),
    "a box below zero": _box(-50, -50, -10, -10),
    "a box swapped": _box(20, 18, 2, 3),
    "a box of nothing": _box(5, 5, 5, 5),
    "a box of the largest numbers": _box(-3e38, -3e38, 3e38, 3e38),
    "a box with null": _box(1.0, None, 3.0, 4.0),
    "boxes of three numbers": _boxes_as([1.0, 2.0, 3.0]),
    "boxes of a thousand numbers": _boxes_as([1.0] * 1000),
    "boxes of nothing": _boxes_as([]),
    "boxes in lists with null": _boxes_as([1.0, None, 3.0, 4.0]),
    "boxes of texts": _boxes_as(["1", "2", "3", "4"], pa.list_(pa.string())),
    "boxes of lists": _boxes_as([[1.0], [2.0], [3.0], [4.0]], pa.list_(pa.list_(pa.float32()))),
    "a mask of a huge run": _first("objects", "mask", f"0 {10**30}"),
    "a mask of many runs": _first("objects", "mask", "1 " * 5_000_000),
    "a mask below zero": _first("objects", "mask", "-5 10"),
    "a mask of words": _first("objects", "mask", "one two"),
    "a name of an object of 100 MB": lambda draft: draft.table("objects", first("name", "x" * 100_000_000)),
    "a category of nothing": _first("objects", "category", ""),
    **{f"no {name} of objects": _without("objects", name) for name in ("item", "x0", "category", "name", "mask")},
    **{f"{name} of objects is null": _first("objects", name, None) for name in ("item", "category", "name")},
    "objects as texts": _column("objects", "item", lambda rows: ["0"] * rows),
    "categories as numbers": _column("objects", "category", lambda rows: list(range(rows))),
}  # fmt: skip

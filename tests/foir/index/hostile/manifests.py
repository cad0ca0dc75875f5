"""Manifests of every wrong shape, with the right digest."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from foir.index.format import MANIFEST
from foir.index.manifest import manifest_digest

from . import tables
from .draft import Draft

Attack = Callable[[Draft], None]
ODD: dict[str, Any] = {
    "null": None,
    "a number": 7,
    "a number beyond any": 10**400,
    "a negative number": -1,
    "a fraction": 0.5,
    "true": True,
    "text": "x",
    "an empty text": "",
    "a list": [[]],
    "an object": {"a": {}},
}
LONG = "x" * 2_000_000
HALF, NUL, ESCAPE = "\ud800", "a\0b", "\x1b]0;owned\x07\x1b[2J"


def attacks(valid: Path) -> dict[str, Attack]:
    """All of them, by name; each place gets every third odd value, the next place those beside."""
    places = list(_places(json.loads((valid / MANIFEST).read_text())))
    odd = [(place, odd) for start, place in enumerate(places) for odd in list(ODD)[start % 3 :: 3]]
    return {
        **{f"{_name(place)} is {name}": _put(place, ODD[name]) for place, name in odd},
        **{f"no {_name(place)}": _drop(place) for place in places},
        **ATTACKS,
    }


def _places(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every value of a manifest, of lists and of the files to the first."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in [pair for pair in inside if pair[0] != "digest"][: 1 if above in {("files",)} else None]:
        if key == 0 or isinstance(key, str):
            yield (*above, key)
            yield from _places(each, (*above, key))


def _name(place: tuple[str | int, ...]) -> str:
    short = ["FILE" if place[0] == "files" and depth == 1 else str(key) for depth, key in enumerate(place)]
    return ".".join(short)


def _at(manifest: Any, place: tuple[str | int, ...]) -> Any:
    for key in place:
        manifest = manifest[key]
    return manifest


def _put(place: tuple[str | int, ...], value: object) -> Attack:
    def attack(draft: Draft) -> None:
        _at(draft.manifest, place[:-1])[place[-1]] = value

    return attack


def _drop(place: tuple[str | int, ...]) -> Attack:
    def attack(draft: Draft) -> None:
        del _at(draft.manifest, place[:-1])[place[-1]]

    return attack


def _more(**values: object) -> Attack:
    return lambda draft: draft.manifest.update(values)


def _named(kind: str, name: str) -> Attack:
    """Give a file another name in the manifest."""

    def attack(draft: Draft) -> None:
        text = json.dumps(draft.manifest)
        draft.manifest = json.loads(text.replace(json.dumps(draft.name(kind)), json.dumps(name)))

    return attack


def _text(change: Callable[[str], str]) -> Attack:
    """Write the signed manifest in another way."""

    def attack(draft: Draft) -> None:
        draft.manifest["digest"] = manifest_digest(draft.manifest)
        draft.raw = change(json.dumps(draft.manifest)).encode("utf-8", "surrogatepass")

    return attack


def _spaces(count: int, name: str = "image{}") -> Attack:
    return lambda draft: draft.manifest["spaces"].update({name.format(i): draft.space for i in range(count)})


def _files(count: int) -> Attack:
    def attack(draft: Draft) -> None:
        facts = next(iter(draft.manifest["files"].values()))
        draft.manifest["files"] |= {f"{i:032x}.safetensors": facts for i in range(count)}

    return attack


def _one_shard_often(draft: Draft) -> None:
    draft.space["shards"] = draft.space["shards"][:1] * 100_000


def _root(path: str, file: str | None = None) -> Attack:
    """Say that the pictures lie elsewhere, and name one of the owner's as the first."""

    def attack(draft: Draft) -> None:
        draft.manifest["root"] = path
        if file is not None:
            draft.table("items", tables.first("file", file))

    return attack


def _store(uri: object) -> Attack:
    """Say that the rows are in a database."""

    def attack(draft: Draft) -> None:
        draft.manifest |= {"store": {"uri": uri, "collection": "foir", "kind": "milvus"}, "count": 34}

    return attack


def _probe(value: object) -> Attack:
    return lambda draft: draft.space.update(reference_feature=[value] * len(draft.space["reference_feature"]))


def _long_probe(draft: Draft) -> None:
    draft.space["reference_feature"] = [0.0] * 500_000


ATTACKS: dict[str, Attack] = {
    **{f"{name} is long": _put((name,), LONG) for name in ("root", "origin", "items", "rejected", "format")},
    **{f"{name} of a space is long": _put(("spaces", "image", name), LONG)
       for name in ("encoder", "revision", "recipe")},
    **{f"encoder with {name}": _put(("spaces", "image", "encoder"), f"a{text}") for name, text in
       {"half a character": HALF, "NUL": NUL, "an escape": ESCAPE, "a path": "../../x", "an address": "hf://x"}.items()},
    **{f"{kind} named {name}": _named(kind, text) for kind in ("items", "vectors", "rejected") for name, text in
       {"with a slash": "thumbs/x.parquet", "above": "../outside.txt", "absolute": "/etc/passwd", "a folder": ".",
        "nothing": "", "with half a character": HALF, "with NUL": NUL, "with an escape": ESCAPE,
        "at length": "x" * 5000, "like the manifest": MANIFEST}.items()},
    "a key beside": _more(owner="x", retired=[{"uri": "milvus.db", "collection": "foir"}], thumbs=[MANIFEST]),
    "a long key beside": _more(**{LONG: 1}),
    "half a character as a key": _more(**{HALF: {HALF: [HALF]}}),
    "a deep key beside": _text(lambda text: text[:-1] + ', "a": ' + "[" * 900 + "]" * 900 + "}"),
    "deeper than any stack": _text(lambda text: '{"a": ' * 200_000 + "1" + "}" * 200_000),
    "keys twice": _text(lambda text: '{"format": 1, "spaces": {}, "root": "/", ' + text[1:]),
    "NaN": _more(next_id=float("nan")),
    "Infinity": _more(next_id=float("inf"), format=float("inf")),
    "a format of the future": _more(format=10**6),
    "a format of the past": _more(format=0),
    "a fraction of a format": _more(format=1.0),
    "a byte order mark": _text(lambda text: "\ufeff" + text),
    "a raw half character": _text(lambda text: text[:-1] + ', "a": "\ud800"}'),
    "20 MB of brackets": _text(lambda text: "[" * 20_000_000),
    "40 MB of lists": _text(lambda text: '{"a": [' + "[]," * 13_000_000 + "[]]}"),
    "30 MB of blanks": _text(lambda text: " " * 30_000_000 + text),
    "70 MB": _text(lambda text: " " * 70_000_000 + text),
    "a thousand spaces": _spaces(1000),
    "5,000 spaces": _spaces(5000),
    "a space of no name": _spaces(1, ""),
    "a space of half a character": _spaces(1, HALF),
    "a space with an escape": _spaces(1, ESCAPE),
    "a space of a long name": _spaces(1, LONG),
    "3,000 files": _files(3000),
    "50,000 files": _files(50_000),
    "one shard 100,000 times": _one_shard_often,
    "no spaces": _more(spaces={}),
    "probe of NaN": _probe(float("nan")),
    "probe of Inf": _probe(float("inf")),
    "probe of zeros": _probe(0.0),
    "probe beyond any float": _probe(1e300),
    "probe of lists": _probe([1.0]),
    "probe of texts": _probe("1"),
    "probe of 500,000": _long_probe,
    "next_id at the end": _more(next_id=2**63 - 1),
    "next_id beyond the end": _more(next_id=2**63),
    "next_id below an id": _more(next_id=1),
    "root is the disk": _root("/", "etc/passwd"),
    "root is a system folder": _root("/etc", "passwd"),
    "root is the owner's folder": _root("../private", "secret.png"),
    "root is above": _root("..", "private/secret.png"),
    "root is a file": _root("../private/secret.png"),
    "root is a pipe": _root("../private/pipe", "x"),
    "root is the index": _root(".", MANIFEST),
    "root with NUL": _root("a\0b"),
    "root of half a character": _root(HALF),
    "file above the root": _root("../pictures", "../private/secret.png"),
    "file outside the root": _root("../pictures", "/etc/passwd"),
    "store in a file": _store("../private/new.db"),
    "store in the index": _store("./new.db"),
    "store at an address": _store("http://127.0.0.1:9"),
    "store of half a character": _store(HALF),
    "store with NUL": _store(NUL),
    "store at length": _store("x" * 100_000),
    "store that is a list": _store(["http://127.0.0.1:9"]),
    "store and nothing else": lambda draft: setattr(
        draft, "manifest", {"format": draft.manifest["format"], "store": {}}),
}  # fmt: skip

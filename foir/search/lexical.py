"""Words that stand in captions, keywords and names of files, by SQLite's full-text index with stemming.

An image's share of a query is how much of it stands there: each word counts by how rare it is. The index of the words
is made here, in memory or in the cache folder of this machine; it is never published and never taken from anybody.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Protocol

import numpy as np

from foir import hub
from foir.index import Index

MAX_IN_MEMORY = 20_000  # images whose words are indexed anew by each process
MAX_WORDS, MAX_PHRASES = 24, 4  # of a query that are looked for
NAMED = 2.0  # the share of an image whose file has the query as its name
_QUOTED = re.compile(r"[\"\u201c\u201d\u00ab\u00bb]([^\"\u201c\u201d\u00ab\u00bb]+)[\"\u201c\u201d\u00ab\u00bb]")
_WORD = re.compile(r"\w+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")  # within the name of a file
# Words that say nothing about an image.
_EMPTY = frozenset(
    "a an and are as at by for from has her his in is it its my of on or our some that the their this to with".split()  # noqa: SIM905
)
_SCHEMA = """
CREATE VIRTUAL TABLE texts USING fts5(text, content='', tokenize='porter unicode61 remove_diacritics 2');
CREATE TABLE names (name TEXT, image INTEGER);
"""


@dataclass(frozen=True, eq=False)
class WordMatches:
    """What the words of a query are worth.

    Attributes:
        share: Of each image, 0 to 1, float32 [n]; `NAMED` where its file has the query as its name.
        quoted: Images that say every quoted phrase, bool [n]; None without one that is said anywhere.
        unknown: Words of the query that stand nowhere.
        unsaid: Quoted phrases that stand nowhere.
    """

    share: np.ndarray
    quoted: np.ndarray | None
    unknown: tuple[str, ...]
    unsaid: tuple[str, ...]


class Described(Protocol):
    """Whatever has texts of images, such as an index."""

    def __len__(self) -> int:
        """The number of images."""

    def texts(self) -> Sequence[tuple[str | None, str | None, str]]:
        """Caption, keywords and file of each image."""


class TextIndex:
    """The words of an index's images. Thread-safe."""

    def __init__(self, index: Described, file: Path | None = None) -> None:
        """Open the words of an index, or make them.

        Args:
            index: Of the images.
            file: Where they are kept; in memory if left out.
        """
        self._count, self._lock = len(index), Lock()
        if file is not None and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part")
            part.unlink(missing_ok=True)
            with closing(sqlite3.connect(part)) as database:
                _fill(database, index)
            part.replace(file)
        self._database = sqlite3.connect(file or ":memory:", check_same_thread=False)
        if file is None:
            _fill(self._database, index)
        self._database.execute("SELECT image FROM names LIMIT 1").fetchone()  # raises where the file is no such index

    @classmethod
    def of(cls, index: Index) -> TextIndex:
        """The words of an index; those of a large one are kept in the cache folder, by the digest of its table."""
        name = index.manifest.items
        if len(index) <= MAX_IN_MEMORY or name is None:
            return cls(index)
        file = hub.cache_folder() / "words" / f"{name}.sqlite"
        with suppress(OSError, sqlite3.Error):
            return cls(index, file)
        file.unlink(missing_ok=True)
        return cls(index)

    def find(self, text: str) -> WordMatches:
        """What the words of a text are worth; words in quotes must stand there as they are."""
        phrases = [phrase for phrase in _QUOTED.findall(text) if _WORD.search(phrase)][:MAX_PHRASES]
        words = list(dict.fromkeys(word.lower() for word in _WORD.findall(text)))[:MAX_WORDS]
        words = [word for word in words if word not in _EMPTY] or words
        share, total = np.zeros(self._count, np.float32), 0.0
        unknown = []
        for word in words:
            rows = self._rows(word)
            rarity = float(np.log1p((self._count - len(rows) + 0.5) / (len(rows) + 0.5)))
            share[rows] += rarity
            total += rarity
            if not len(rows):
                unknown.append(word)
        share /= max(total, 1e-6)
        share[self._named(text)] = NAMED
        said = {phrase: self._rows(phrase) for phrase in phrases}
        found = [np.isin(np.arange(self._count), rows) for rows in said.values() if len(rows)]
        quoted = np.logical_and.reduce(found) if found else None
        return WordMatches(share, quoted, tuple(unknown), tuple(phrase for phrase in said if not len(said[phrase])))

    def _rows(self, phrase: str) -> np.ndarray:
        quoted = '"' + phrase.replace('"', " ") + '"'
        return self._select("SELECT rowid FROM texts WHERE texts MATCH ?", quoted)

    def _named(self, text: str) -> np.ndarray:
        return self._select("SELECT image FROM names WHERE name = ?", text.strip().strip('"').lower())

    def _select(self, query: str, value: str) -> np.ndarray:
        with self._lock:
            return np.array([row[0] for row in self._database.execute(query, [value])], int)


def _fill(database: sqlite3.Connection, index: Described) -> None:
    database.executescript(_SCHEMA)
    columns = index.texts()
    database.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", enumerate(_texts(columns)))
    database.executemany("INSERT INTO names VALUES (?, ?)", _names([file for *_, file in columns]))
    database.execute("CREATE INDEX by_name ON names (name)")
    database.commit()


def _texts(columns: Iterable[Sequence[str | None]]) -> Iterable[str]:
    for caption, keywords, file in columns:
        path = PurePosixPath(file or "")
        said = _CAMEL.sub(" ", re.sub(r"[_\W]+", " ", path.with_suffix("").as_posix() if path.name else ""))
        yield " . ".join((caption or "", keywords or "", said))


def _names(files: Sequence[str | None]) -> Iterable[tuple[str, int]]:
    for row, file in enumerate(files):
        path = PurePosixPath((file or "").lower())
        for name in {path.as_posix(), path.name, path.stem}:
            yield name, row

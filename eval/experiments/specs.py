"""What every experiment shares: its declaration, a row of its table, and the context of a run."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from foir import encoders, image_text
from foir.filenames import safe_name
from foir.image_text import ImageTextModel
from foir.terminal import write

from .. import datasets
from ..datasets.base import Dataset
from ..report import published
from ..report.results import Cell, CellBuilder
from .query_prompts import write_oddities
from .results_cache import FORMAT, ResultsCache

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, eq=False)
class Row:
    """One line of a table.

    Attributes:
        method: A method or chain.
        options: Its options.
        mode: "query", or "query-db" to apply the query's head gate to the gallery too.
        prompt: "box", "segment" or "point"; see `query_prompts`.
        noise: Largest shift of a box's sides in pixels; 0 for none.
        published: The paper's names of method and variant, where it has this row.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    mode: str = "query"
    prompt: str = "box"
    noise: int = 0
    published: tuple[str, str] | None = None

    @property
    def prompt_options(self) -> dict[str, Any]:
        """Prompt, mode and noise as cells report them, beside the method's options."""
        noise = {"noise": self.noise} if self.noise else {}
        mode = {"mode": self.mode} if self.mode != "query" else {}
        return {"prompt": self.prompt, **mode, **noise}


@dataclass(frozen=True)
class RunContext:
    """How an experiment is run.

    Attributes:
        device: "cpu", "cuda", "mps" or "auto".
        dtype: "float32", "bfloat16" or "float16".
        pretrained: False for random weights of the true architecture.
        limit: Number of query images; None for all. The gallery is always whole.
        results: Folder of caches and figures.
        adapter: Fine-tuned rows from `foir.small_objects.finetune`.
        revision: Commit, tag or branch of the weights; None for the newest.
    """

    device: str = "auto"
    dtype: str = "float32"
    pretrained: bool = True
    limit: int | None = None
    results: Path = Path("results")
    adapter: Path | None = None
    revision: str | None = None
    _loaded: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def cache(self) -> ResultsCache:
        """Results of earlier runs."""
        return ResultsCache(self.results / "kept")

    def load_dataset(self, name: str, kind: type[_Kind]) -> _Kind:
        """Load a data set; it is kept until another one is loaded."""
        if name not in self._loaded:
            self._loaded.clear()
            self._loaded[name] = datasets.load(name, kind)
            _write_facts(self._loaded[name])
        data: _Kind = self._loaded[name]
        return data

    def count(self, available: int) -> int:
        """The number of query images out of those available."""
        return available if self.limit is None else min(self.limit, available)

    def cells_path(self, *names: str) -> Path:
        """The file with the cells of an experiment, a data set and an encoder, by their names."""
        dtype = "" if self.dtype == "float32" else self.dtype
        variant = (self.limit, "" if self.pretrained else "random", "trained" if self.adapter else "", dtype)
        return self.results / "cells" / f"{file_stem(*names)}{''.join(f'-{word}' for word in variant if word)}.json"

    @property
    def model_options(self) -> dict[str, Any]:
        """How models are loaded."""
        return {"revision": self.revision, "device": self.device, "dtype": self.dtype, "pretrained": self.pretrained}


@dataclass(frozen=True)
class ExperimentSpec(ABC):
    """An experiment: its declaration, and how it is measured on one data set with one encoder.

    Attributes:
        data_kind: Kind of its data sets; None where it needs no data.
        name: Its name for `python -m eval run`.
        title: One line for `python -m eval list`.
        datasets: Registry names; --dataset replaces them.
        encoders: Registry names; --encoder replaces them.
        note: What a reader of its published values should know.
    """

    data_kind: ClassVar[type[Any] | None] = Dataset
    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    note: str = field(default="", kw_only=True)

    def run(self, dataset: str, encoder: str, context: RunContext) -> list[Cell]:
        """Load the data set and the encoder, and measure every row.

        Raises:
            Unavailable: The data set or the encoder is unknown, or its files are missing.
        """
        data = None if self.data_kind is None else context.load_dataset(dataset, self.data_kind)
        facts = {"format": str(FORMAT), "dtype": context.dtype, **({} if data is None else {"data": data.digest})}
        cells = [
            replace(cell, revisions={**cell.revisions, **facts}) if cell.status == "ok" else cell
            for cell in self.measure(data, self.load_model(encoder, context), context)
        ]
        if self.note and any(cell.published is not None for cell in cells):
            write(self.note)
        return cells

    def load_model(self, name: str, context: RunContext) -> Any:
        """Load what `measure` takes as its model: an encoder."""
        return encoders.load(name, **context.model_options)

    @abstractmethod
    def measure(self, data: Any, model: Any, context: RunContext) -> list[Cell]:
        """Measure every row.

        Args:
            data: A data set of the kind `data_kind`.
            model: From `load_model`.
            context: How the experiment is run.
        """

    def cells(self, data: Any, model: Any, started: float | None = None, **facts: Any) -> CellBuilder:
        """A builder of this experiment's cells.

        Args:
            data: The data set.
            model: The encoder or the model of images and text.
            started: Time of `time.perf_counter` from which the cells' seconds count.
            facts: Other attributes of `CellBuilder`.
        """
        seconds = 0.0 if started is None else round(time.perf_counter() - started, 1)
        facts = {"oddities": _oddities(data), **facts}
        return CellBuilder(self.name, data.name, model.name, {"encoder": model.revision}, seconds=seconds, **facts)


class ImageTextSpec(ExperimentSpec):
    """An experiment with a model of images and text."""

    def load_model(self, name: str, context: RunContext) -> ImageTextModel:
        """Load a model of images and text."""
        return image_text.load(name, **context.model_options)


def size_label(name: str) -> str:
    """A size's name in words: "n_db_images" is "gallery images"."""
    return name.removeprefix("n_").replace("db_", "gallery_").replace("_", " ")


def _write_facts(data: Any) -> None:
    """Write the sizes of a data set, beside the published ones, and what was odd when it was read."""
    published_sizes = {name: published.fact(data.name, name) for name in data.sizes}
    words = [
        f"{size_label(name)} {count}"
        + ("" if (theirs := published_sizes[name]) is None else f" (published: {theirs:g})")
        for name, count in data.sizes.items()
    ]
    write(f"{data.name}: {', '.join(words)}.")
    if (layout := datasets.layouts().get(data.name)) is not None and layout.note:
        write(layout.note)
    write_oddities(data.name, _oddities(data))


def _oddities(data: Any) -> dict[str, int]:
    """What was odd when the data set was read."""
    return {text: count for text, count in getattr(data, "oddities", {}).items() if count}


def file_stem(*names: str) -> str:
    """The name of a results file without its suffix."""
    return safe_name("-".join(names))

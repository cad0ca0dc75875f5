"""What every experiment shares: its declaration, a row of its table, and the context of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .. import datasets
from .results_cache import ResultsCache

if TYPE_CHECKING:
    from foir.encoders.base import Encoder
    from foir.image_text import ImageTextModel

    from ..report.results import Cell

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
    """

    device: str = "auto"
    dtype: str = "float32"
    pretrained: bool = True
    limit: int | None = None
    results: Path = Path("results")
    adapter: Path | None = None
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
        data: _Kind = self._loaded[name]
        return data

    def load_encoder(self, name: str) -> Encoder:
        """Load an encoder for this run."""
        from foir import encoders

        return encoders.load(name, device=self.device, dtype=self.dtype, pretrained=self.pretrained)

    def load_image_text(self, name: str) -> ImageTextModel:
        """Load a model of images and text for this run."""
        from foir import image_text

        return image_text.load(name, device=self.device, dtype=self.dtype, pretrained=self.pretrained)


@dataclass(frozen=True)
class ExperimentSpec(ABC):
    """An experiment: its declaration and how it is run.

    Attributes:
        name: Its name for `python -m eval run`.
        title: One line for `python -m eval list`.
        datasets: Registry names; --dataset replaces them. Empty where no data is needed.
        encoders: Registry names; --encoder replaces them.
    """

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]

    @abstractmethod
    def run(self, dataset: str, encoder: str, context: RunContext) -> list[Cell]:
        """Load the data set and the encoder, measure every row, and return the cells.

        Raises:
            Unavailable: The data set or the encoder is unknown, or its files are missing.
        """


def file_stem(*names: str) -> str:
    """The name of a results file without its suffix."""
    return "-".join(names).replace("/", "_")

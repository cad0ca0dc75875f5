"""Every experiment as data: on which pictures, with which encoder, which rows, which metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Row:
    """One line of a table.

    Attributes:
        method: A method or chain.
        options: Its options.
        mode: "query", or "query-db" to show the gallery through the query's heads too.
        prompt: "box", "segment" or "point"; see `eval.experiments.pointing`.
        noise: Largest shift of a box's sides in pixels, 0 for none.
        published: What the paper calls method and variant, where it has this row.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    mode: str = "query"
    prompt: str = "box"
    noise: int = 0
    published: tuple[str, str] | None = None

    @property
    def shown(self) -> dict[str, Any]:
        """How it is asked, beside the method's own options, as cells name it."""
        noise = {"noise": self.noise} if self.noise else {}
        mode = {"mode": self.mode} if self.mode != "query" else {}
        return {"prompt": self.prompt, **mode, **noise}


@dataclass(frozen=True)
class PromptedRetrieval:
    """A table.

    Attributes:
        name: What `python -m eval run` calls it.
        title: One line for `python -m eval list`.
        datasets: Registry ids; --dataset picks one, or another.
        encoders: Registry ids; --encoder picks one, or another.
        rows: In the table's order; the first is what the others are compared with.
        k: Depth of the metrics.
        metrics: "MP", "MAP" (means over categories, as in the paper) or "P" (mean over query pictures).
        by: Also split by the number of objects asked for on the query picture: "objects" for just so many, "at-least"
            for so many or more; "" for no split.
        table: How the PHS paper numbers it, where it is one of its tables.
    """

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    rows: tuple[Row, ...]
    k: int
    metrics: tuple[str, ...] = ("MP",)
    table: str = ""
    by: str = ""


@dataclass(frozen=True)
class DatasetStats:
    """How many objects a query picture has, as shares of the pictures; needs no encoder."""

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...] = ("none",)


@dataclass(frozen=True)
class Figure:
    """A figure of pictures; `what` is a function of `eval.experiments.figures`, the other fields as in `PromptedRetrieval`."""

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class TextRetrieval:
    """Recall at each of `ks` between words and pictures, both ways; the other fields as in `PromptedRetrieval`."""

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    ks: tuple[int, ...] = (1, 5, 10)


@dataclass(frozen=True)
class Captioning:
    """CIDEr of a model's captions beside two baselines; the fields as in `PromptedRetrieval`."""

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]


@dataclass(frozen=True)
class QueryPerturbation:
    """Recall between words and pictures whose queries are pulled at objects (Q-Pert).

    Attributes:
        name: What `python -m eval run` calls it.
        title: One line for `python -m eval list`.
        datasets: Registry ids of pictures with captions and boxes.
        encoders: Names of models; --encoder picks one, or another.
        rows: `method` is "plain", "qpert", "oes" (object embeddings), or another paper's, whose numbers are copied;
            options: "boxes" ("annotated" or "detected"), "theta", "strength", "weight", "mode". A model's own choice
            stands where theta or strength is left out.
        ks: Depths of recall.
        tables: How the paper numbers it.
        chosen: Name the row with the best mR@1 from words to pictures: the rows are a grid of hyper-parameters.
    """

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    rows: tuple[Row, ...]
    ks: tuple[int, ...] = (1, 5, 10)
    tables: tuple[str, ...] = ()
    chosen: bool = False


@dataclass(frozen=True)
class CaptionSteering:
    """How often captions say what is pointed at, by strength; 0 first. The other fields as in `PromptedRetrieval`."""

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    strengths: tuple[float, ...]


@dataclass(frozen=True)
class PerturbationCost:
    """What a method adds to the time of a picture, beside what the paper measured; needs no data."""

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]


@dataclass(frozen=True)
class RelevanceFeedback:
    """Ranking again after a simulated user judged the first results; the other fields as in `PromptedRetrieval`.

    Attributes:
        rows: How round one searches; "rule" among the options names the feedback (`foir.ranking.feedback.feedback_rules`).
        sizes: How many of the first results are judged; 0 first.
        worded: Round one also hears words for a second thing, and only pictures with both are liked; needs `kinds`.
        ks: Depths of Recall@K, the share of queries with a hit among the first K.
    """

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    rows: tuple[Row, ...]
    sizes: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50)
    worded: bool = False
    ks: tuple[int, ...] = (1, 2, 4, 8)


@dataclass(frozen=True)
class Clustering:
    """How well k-means on the features finds the classes. The other fields as in `PromptedRetrieval`.

    Attributes:
        rows: Methods without a prompt; the first is what the others are compared with.
        seeds: Starts of k-means, over which the mean is taken.
    """

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    rows: tuple[Row, ...]
    seeds: int = 5


@dataclass(frozen=True)
class InstanceRetrieval:
    """Instances found on scenes of many objects. The other fields as in `PromptedRetrieval`.

    Attributes:
        rows: `method` is one of `eval.experiments.representations.REPRESENTATIONS`, or another paper's, whose numbers are
            copied; options: "boxes" ("annotated" or "detected"), "trained" where the encoder was fine-tuned first.
        tables: How the paper, or its repository, calls the tables that it prints.
        compared: Methods that the rows behind them are compared with.
    """

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    rows: tuple[Row, ...]
    tables: tuple[str, ...] = ()
    compared: tuple[str, ...] = ("cls", "mean")


@dataclass(frozen=True)
class ProposalRecall:
    """How many annotated objects the first of so many proposals find; the other fields as in `PromptedRetrieval`."""

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    depths: tuple[int, ...] = (5, 10, 20, 50)

"""Every experiment as data: on which pictures, with which encoder, which rows, which metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of a table: a method or chain, its options, and whether the database is shown through its heads too."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    mode: str = "query"


@dataclass(frozen=True)
class Experiment:
    """A table.

    Attributes:
        name: What `python -m eval run` calls it.
        title: One line for `python -m eval list`.
        datasets: Registry ids; --dataset picks one, or another.
        encoders: Registry ids; --encoder picks one, or another.
        rows: In the table's order; the first is what the others are compared with.
        k: Depth of MP@k.
    """

    name: str
    title: str
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    rows: tuple[Row, ...]
    k: int


RIVALS = (Row("mask"), Row("crop"), Row("foveal"), Row("attention_mask"))


def head_scan(heads: int) -> tuple[Row, ...]:
    """PHS with 1 to `heads` heads, on the query and on query and database."""
    modes = ("query", "query-db")
    return tuple(Row("phs", {"h_on": h_on}, mode) for mode in modes for h_on in range(1, heads + 1))


EXPERIMENTS = {
    e.name: e
    for e in (
        Experiment(
            "coco-small",
            "Every method and head count on coco_small, leave-one-out",
            ("coco_small",),
            ("mini",),
            (
                Row("cbir"),
                *RIVALS,
                *head_scan(6),
                Row("phs", {"h_on": 5, "roi": "max"}),
                *(Row("phs", {"h_on": 5, "variant": v}) for v in ("before", "after", "after+scale", "identity")),
                Row("foveal|phs", {"h_on": 5}),
                Row("attention_mask|phs", {"h_on": 5}),
                Row("crop|phs", {"h_on": -1}),
            ),
            10,
        ),
        Experiment(
            "playroom-small",
            "Small things (1 to 5 % of the picture) of held-out playroom scenes, by category and by instance",
            ("playroom", "playroom-instances"),
            ("mini",),
            (
                Row("cbir"),
                *RIVALS,
                *(Row("phs", {"h_on": h_on}) for h_on in range(1, 6)),
                *(Row("phs", {"h_on": h_on}, "query-db") for h_on in (3, 5)),
                Row("foveal|phs", {"h_on": 5}),
                Row("attention_mask|phs", {"h_on": 5}),
            ),
            10,
        ),
        Experiment(
            "mini-depth",
            "After which block mini's trunk retrieves best",
            ("coco_small",),
            tuple(f"mini-trunk:{blocks}" for blocks in range(6, 13)),
            (Row("cbir"), Row("phs", {"h_on": 5})),
            10,
        ),
    )
}

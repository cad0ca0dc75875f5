"""The tables of the Q-Pert paper (arXiv 2407.12346). Its numbers are in eval/report/published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from .perturbation_cost import PerturbationCost
from .query_perturbation import QueryPerturbation
from .specs import Row

DATASETS = ("flickr30k", "flickr-fg", "coco-5k", "coco-fg")
BLIP2 = ("blip2",)
STRENGTHS, THETAS = (2, 4, 6, 8, 10), (0.8, 0.85, 0.9, 0.95, 0.99)  # of BLIP-2
WEIGHTS = {"S": "S", "1-S": "1-S", "S-0.5": "S-0.5", "0.5-S": "0.5-S", "1": "constant"}  # our names and the paper's
OTHERS = (
    "SCAN",
    "IMRAM",
    "SHAN",
    "VSE",
    "NAAF",
    "CLIP",
    "ALBEF",
    "UNITER",
    "BEIT-3",
    "COCA",
    "InternVL-G",
)  # measured by their papers

PLAIN = Row("plain", published=("BLIP2", ""))
ENTITIES = Row("qpert", {"boxes": "annotated"}, published=("Q-Pert(E)", ""))
DETECTED = Row("qpert", {"boxes": "detected"}, published=("Q-Pert(D)", ""))


def _sweep(key: str, values: tuple[float, ...], label: str) -> Iterator[Row]:
    """Each weight with each value of one hyper-parameter; the paper does not state the other one."""
    for (weight, printed), value in product(WEIGHTS.items(), values):
        options: Mapping[str, Any] = {"boxes": "annotated", "weight": weight, key: value}
        text = f"{value:.2f}" if key == "theta" else str(value)
        yield Row("qpert", options, published=("Q-Pert(E)", f"weight={printed};{label}={text}"))


def _search(name: str, models: tuple[str, ...], strengths: tuple[float, ...]) -> QueryPerturbation:
    """The paper's grid, by mR@1 on the validation splits."""
    grid = (
        Row("qpert", {"boxes": "annotated", "weight": weight, "strength": strength, "theta": theta})
        for weight, strength, theta in product(WEIGHTS, strengths, THETAS[1:])
    )
    title = f"Q-Pert: the paper's grid of hyper-parameters for {' and '.join(models)}, on the validation split"
    data = ("flickr30k-val", "coco-5k-val")
    return QueryPerturbation(name, title, data, models, (Row("plain"), *grid), (1,), best_of_grid=True)


SCALES = tuple(_sweep("strength", STRENGTHS, "scale"))
CONTRIBUTIONS = tuple(_sweep("theta", THETAS, "contrib"))

EXPERIMENTS = (
    QueryPerturbation(
        "qpert-table1", "Q-Pert Table 1: BLIP-2 on images with small objects", DATASETS, BLIP2,
        (PLAIN, ENTITIES, DETECTED), (1,), ("1",),
    ),
    QueryPerturbation(
        "qpert-table2", "Q-Pert Table 2: BLIP-2, recall and its mean over sizes", DATASETS, BLIP2,
        (PLAIN, ENTITIES, DETECTED), tables=("2",),
    ),
    QueryPerturbation(
        "qpert-table3", "Q-Pert Table 3: beside other papers' models", ("flickr30k", "coco-5k"), BLIP2,
        (
            *(Row(name, published=(name, "")) for name in OTHERS),
            Row("plain", published=("BLIP2", "")),
            Row("qpert", {"boxes": "annotated"}, published=("BLIP2 w/Q-Pert(E)", "")),
            Row("qpert", {"boxes": "detected"}, published=("BLIP2 w/Q-Pert(D)", "")),
        ),
        tables=("3",),
    ),
    QueryPerturbation(
        "qpert-table4", "Q-Pert Table 4: CoCa and InternVL-G", ("flickr30k", "flickr-fg"), ("coca", "internvl-g"),
        (
            Row("plain", published=("base", "")),
            Row("qpert", {"boxes": "annotated"}, published=("w/Q-Pert", "")),
        ),
        tables=("4",),
    ),
    QueryPerturbation(
        "qpert-table5", "Q-Pert Table 5: strength, weight and theta", ("flickr30k",), BLIP2,
        (Row("plain"), *SCALES, *CONTRIBUTIONS), (1,), ("5",),
    ),
    QueryPerturbation(
        "qpert-tableA", "Q-Pert Table A: object embeddings, and the orthogonal subspace", ("flickr30k",), BLIP2,
        (
            PLAIN,
            ENTITIES,
            Row("oes", {"boxes": "annotated"}, published=("OEs", "")),
            Row("qpert", {"boxes": "annotated", "mode": "orthogonal"}, published=("OrQ-Pert", "")),
            Row("qpert", {"boxes": "mentioned"}),
            Row("qpert", {"boxes": "annotated", "mode": "legacy"}),  # depends on eigenvectors' signs
        ),
        (1, 5),
        ("A",),
    ),
    PerturbationCost("qpert-tableB", "Q-Pert Table B: time added to an image", (), BLIP2),
    QueryPerturbation(
        "qpert-tableC", "Q-Pert Table C: strength and weight, small objects", ("flickr30k",), BLIP2,
        (Row("plain"), *SCALES), (1,), ("C(a)", "C(b)"),
    ),
    QueryPerturbation(
        "qpert-tableD", "Q-Pert Table D: theta and weight, small objects", ("flickr30k",), BLIP2,
        (Row("plain"), *CONTRIBUTIONS), (1,), ("D(a)", "D(b)"),
    ),
    QueryPerturbation(
        "qpert-fig2", "Q-Pert Figure 2: recall by the size of the largest object", ("flickr30k",), BLIP2,
        (PLAIN, ENTITIES), (1,),
    ),
    _search("qpert-search", BLIP2, STRENGTHS),
    _search("qpert-search-small", ("coca", "internvl-g"), (0.2, 0.4, 0.6, 0.8, 1.0)),
)  # fmt: skip

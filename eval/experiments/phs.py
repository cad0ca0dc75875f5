"""The tables and figures of the PHS paper (arXiv 2504.01348). Its numbers are in eval/report/published."""

from __future__ import annotations

from .dataset_stats import NOISE, DatasetStats
from .figures import Figure
from .prompted_retrieval import PromptedRetrieval
from .specs import Row

DATASETS = ("coco", "voc", "visual_genome")
DINOV2 = tuple(f"dinov2-{size}-reg" for size in ("small", "base", "large", "giant"))
CLIP = ("clip-base", "clip-large")
LARGE, GIANT = ("dinov2-large-reg",), DINOV2[-1:]
K = 100
HEADS = {"h_on": 5}
PROMPTS = ("point", "box", "segment")

CBIR = Row("cbir", published=("CBIR", ""))
MASK = Row("mask", published=("Mask", ""))
FOVEAL = Row("foveal", published=("FA", ""))
PHS = Row("phs", HEADS, published=("PHS", ""))
QUERY_ONLY = Row("phs", HEADS, published=("PHS", "query-only"))
MANY = "multi-object queries only"
BY_OBJECTS = (
    Row("cbir"), Row("mask", published=("Mask", MANY)), Row("foveal"), Row("phs", HEADS, published=("PHS", MANY)),
)  # fmt: skip
SINGLE = (
    "The paper writes that 38 % of the queries of PASCAL VOC are single-object queries. It stands beside the share of "
    "query images: 38 % of the 14,976 boxes would be more single-object images than the 4,952 that there are."
)


def _table(
    number: str, title: str, rows: tuple[Row, ...], encoders: tuple[str, ...], datasets: tuple[str, ...] = DATASETS,
    metrics: tuple[str, ...] = ("MP",),
) -> PromptedRetrieval:  # fmt: skip
    return PromptedRetrieval(
        f"phs-table{number}", f"PHS Table {number}: {title}", datasets, encoders, rows, K, metrics, number
    )


def _clean_and_noisy(method: str, label: str, **options: int) -> tuple[Row, Row]:
    """The same row with exact and with jittered boxes (A9, A10)."""
    return (
        Row(method, options, published=(label, "clean")),
        Row(method, options, noise=NOISE, published=(label, "noisy")),
    )


def _head_counts(mode: str) -> tuple[Row, ...]:
    """PHS with 1 to 24 heads; an encoder runs the rows that it has heads for."""
    return tuple(Row("phs", {"h_on": h_on}, mode) for h_on in (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24))


TABLE1 = _table("1", "DINOv2", (CBIR, MASK, FOVEAL, QUERY_ONLY), DINOV2, metrics=("MP", "MAP"))
EXPERIMENTS = (
    TABLE1,
    _table("2", "CLIP", (CBIR, MASK, FOVEAL, QUERY_ONLY), CLIP, metrics=("MP", "MAP")),
    _table(
        "3", "points, boxes and masks",
        (
            CBIR,
            *(Row("mask", prompt=prompt, published=("Mask", prompt)) for prompt in PROMPTS),
            *(Row("phs", HEADS, prompt=prompt, published=("PHS", prompt)) for prompt in PROMPTS),
        ),
        DINOV2, ("coco",),
    ),
    _table(
        "4", "jittered boxes, crop and PHS",
        (*_clean_and_noisy("crop", "Crop"), *_clean_and_noisy("phs", "PHS", **HEADS)), (*DINOV2, *CLIP), ("coco",),
    ),
    _table(
        "A1", "foveal attention and PHS together",
        (CBIR, FOVEAL, PHS, Row("foveal|phs", HEADS, published=("FA+PHS", ""))), DINOV2,
    ),
    _table(
        "A2", "heads selected on the gallery too",
        (FOVEAL, QUERY_ONLY, Row("phs", HEADS, "query-db", published=("PHS", "query-db"))), (*DINOV2, *CLIP),
    ),
    _table(
        "A3", "jittered boxes, all methods",
        (
            CBIR, *_clean_and_noisy("mask", "Mask"), *_clean_and_noisy("foveal", "FA"),
            *_clean_and_noisy("phs", "PHS", **HEADS),
        ),
        DINOV2,
    ),
    _table(
        "A4", "sum or maximum of the attention on the region",
        (CBIR, *(Row("phs", {**HEADS, "roi": roi}, published=("PHS", f"roi={roi}")) for roi in ("max", "sum"))), LARGE,
    ),
    _table(
        "A5", "treatment of the other heads",
        tuple(
            Row("phs", {**HEADS, "variant": variant}, published=("PHS", variant))
            for variant in ("identity", "after", "before", "after+scale", "before+scale")
        ),
        LARGE,
    ),
    _table(
        "A6", "the attention mask beside the others",
        (CBIR, MASK, FOVEAL, Row("attention_mask", published=("AttentionMask", "")), PHS), LARGE,
    ),
    _table(
        "A7", "a cropped query without the head that attends to it least",
        (
            Row("crop", published=("CBIR", "crop-query")),
            Row("crop|phs", {"h_on": -1}, published=("PHS", "crop-query;h_on=h-1")),
        ),
        (*DINOV2, *CLIP),
    ),
    PromptedRetrieval(
        "phs-fig4", "PHS Figure 4: by the number of objects, CLIP", DATASETS, ("clip-large",), BY_OBJECTS, K,
        by="objects",
    ),
    PromptedRetrieval(
        "phs-fig5", "PHS Figure 5: by the number of objects, DINOv2", DATASETS, LARGE, BY_OBJECTS, K, by="objects",
    ),
    PromptedRetrieval(
        "phs-figA2", "PHS Figure A2: by the least number of objects", DATASETS, (*DINOV2, *CLIP), BY_OBJECTS, K,
        table="Sec4.4", by="at-least", group="2+",
    ),
    PromptedRetrieval(
        "phs-fig8", "PHS Figure 8: number of heads", ("coco",), DINOV2, (CBIR, *_head_counts("query")), K, best=True,
    ),
    PromptedRetrieval(
        "phs-figA1", "PHS Figure A1: number of heads, on the query, and on query and gallery", ("coco",),
        ("dinov2-base-reg",), (CBIR, *_head_counts("query"), *_head_counts("query-db")), K,
    ),
    DatasetStats("phs-fig3", "PHS Figure 3: objects on a query image", DATASETS, note=SINGLE),
    Figure("phs-fig6", "PHS Figure 6: attention without a prompt, foveal, PHS", ("coco",), GIANT, "attention"),
    Figure("phs-fig7", "PHS Figure 7: results with and without the scene", ("coco",), LARGE, "context"),
    Figure("phs-figA3", "PHS Figure A3: more of Figure 6", ("coco",), GIANT, "more_attention"),
    Figure("phs-figA4", "PHS Figure A4: every head of the last block", ("coco",), DINOV2, "heads"),
    Figure("phs-figA5", "PHS Figure A5: PHS with models of every size", ("coco",), DINOV2, "selected"),
)  # fmt: skip

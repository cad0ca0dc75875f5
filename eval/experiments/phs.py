"""The PHS paper's tables (arXiv 2504.01348) as data. Numbers to compare with lie in eval/published."""

from __future__ import annotations

from eval.experiments.specs import DatasetStats, Figure, PromptedRetrieval, Row

DATASETS = ("coco", "voc", "visual_genome")
DINOV2 = tuple(f"dinov2-{size}-reg" for size in ("small", "base", "large", "giant"))
CLIP = ("clip-base", "clip-large")
LARGE = ("dinov2-large-reg",)
K, H_ON, NOISE = 100, 5, 40
HEADS = {"h_on": H_ON}

CBIR = Row("cbir", published=("CBIR", ""))
MASK = Row("mask", published=("Mask", ""))
FOVEAL = Row("foveal", published=("FA", ""))
PHS = Row("phs", HEADS, published=("PHS", ""))
COUNTED = (Row("cbir"), Row("mask"), Row("foveal"), Row("phs", HEADS))
QUERY_ONLY = Row("phs", HEADS, published=("PHS", "query-only"))


def _table(
    number: str, title: str, rows: tuple[Row, ...], encoders: tuple[str, ...], datasets: tuple[str, ...] = DATASETS,
    metrics: tuple[str, ...] = ("MP",),
) -> PromptedRetrieval:  # fmt: skip
    return PromptedRetrieval(
        f"phs-table{number}", f"PHS Table {number}: {title}", datasets, encoders, rows, K, metrics, number
    )


def _hands(method: str, label: str, **options: int) -> tuple[Row, Row]:
    """The same row with careful and with careless boxes (A9, A10)."""
    return (
        Row(method, options, published=(label, "clean")),
        Row(method, options, noise=NOISE, published=(label, "noisy")),
    )


def _scan(mode: str) -> tuple[Row, ...]:
    """PHS with 1 to 24 heads; an encoder answers as far as it has heads."""
    return tuple(Row("phs", {"h_on": h_on}, mode) for h_on in (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24))


EXPERIMENTS = (
    _table("1", "DINOv2", (CBIR, MASK, FOVEAL, QUERY_ONLY), DINOV2, metrics=("MP", "MAP")),
    _table("2", "CLIP", (CBIR, MASK, FOVEAL, QUERY_ONLY), CLIP, metrics=("MP", "MAP")),
    _table(
        "3",
        "points, boxes and outlines",
        (
            CBIR,
            *(Row("mask", prompt=prompt, published=("Mask", prompt)) for prompt in ("point", "box", "segment")),
            *(Row("phs", HEADS, prompt=prompt, published=("PHS", prompt)) for prompt in ("point", "box", "segment")),
        ),
        DINOV2,
        ("coco",),
    ),
    _table(
        "4",
        "careless boxes, crop and PHS",
        (*_hands("crop", "Crop"), *_hands("phs", "PHS", h_on=H_ON)),
        (*DINOV2, *CLIP),
        ("coco",),
    ),  # fmt: skip
    _table(
        "A1",
        "foveal attention and PHS together",
        (CBIR, FOVEAL, PHS, Row("foveal|phs", HEADS, published=("FA+PHS", ""))),
        DINOV2,
    ),
    _table(
        "A2",
        "heads selected on the database too",
        (FOVEAL, QUERY_ONLY, Row("phs", HEADS, "query-db", published=("PHS", "query-db"))),
        (*DINOV2, *CLIP),
    ),
    _table(
        "A3",
        "careless boxes, all methods",
        (CBIR, *_hands("mask", "Mask"), *_hands("foveal", "FA"), *_hands("phs", "PHS", h_on=H_ON)),
        DINOV2,
    ),
    _table(
        "A4",
        "attention on the region summed or its largest",
        (CBIR, *(Row("phs", {**HEADS, "roi": roi}, published=("PHS", f"roi={roi}")) for roi in ("max", "sum"))),
        LARGE,
    ),
    _table(
        "A5",
        "what becomes of the other heads",
        tuple(
            Row("phs", {**HEADS, "variant": variant}, published=("PHS", variant))
            for variant in ("identity", "after", "before", "after+scale", "before+scale")
        ),
        LARGE,
    ),
    _table(
        "A6",
        "the attention mask beside the others",
        (CBIR, MASK, FOVEAL, Row("attention_mask", published=("AttentionMask", "")), PHS),
        LARGE,
    ),
    _table(
        "A7",
        "a cropped query, and the head that looks least at it left out",
        (
            Row("crop", published=("CBIR", "crop-query")),
            Row("crop|phs", {"h_on": -1}, published=("PHS", "crop-query;h_on=h-1")),
        ),
        (*DINOV2, *CLIP),
    ),
    PromptedRetrieval(
        "phs-fig4", "PHS Figure 4: by the number of objects, CLIP", DATASETS, ("clip-large",), COUNTED, K, by="objects"
    ),
    PromptedRetrieval("phs-fig5", "PHS Figure 5: by the number of objects, DINOv2", DATASETS, LARGE, COUNTED, K, by="objects"),
    PromptedRetrieval(
        "phs-figA2", "PHS Figure A2: by the least number of objects", DATASETS, (*DINOV2, *CLIP), COUNTED, K,
        by="at-least",
    ),
    PromptedRetrieval("phs-fig8", "PHS Figure 8: how many heads are kept", ("coco",), DINOV2, (CBIR, *_scan("query")), K),
    PromptedRetrieval(
        "phs-figA1", "PHS Figure A1: how many heads are kept, on the query and on the database too", ("coco",),
        ("dinov2-base-reg",), (CBIR, *_scan("query"), *_scan("query-db")), K,
    ),
)  # fmt: skip

FIGURES = (
    DatasetStats("phs-fig3", "PHS Figure 3: objects on a query picture", DATASETS),
    Figure("phs-fig6", "PHS Figure 6: attention without a prompt, foveal, PHS", ("coco",), DINOV2[-1:], "attention"),
    Figure("phs-fig7", "PHS Figure 7: what the scene around the object is worth", ("coco",), LARGE, "context"),
    Figure("phs-figA3", "PHS Figure A3: more of Figure 6", ("coco",), DINOV2[-1:], "more_attention"),
    Figure("phs-figA4", "PHS Figure A4: every head of the last block", ("coco",), DINOV2, "heads"),
    Figure("phs-figA5", "PHS Figure A5: PHS with models of every size", ("coco",), DINOV2, "selected"),
)

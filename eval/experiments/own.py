"""Every experiment by name: foir's own, and the papers' (`eval.experiments.phs`)."""

from __future__ import annotations

from eval.experiments import mao, phs, qpert
from eval.experiments.specs import (
    Captioning,
    Clustering,
    PerturbationCost,
    DatasetStats,
    Figure,
    PromptedRetrieval,
    RelevanceFeedback,
    CaptionSteering,
    InstanceRetrieval,
    QueryPerturbation,
    ProposalRecall,
    TextRetrieval,
    Row,
)

RIVALS = (Row("mask"), Row("crop"), Row("foveal"), Row("attention_mask"))


def head_scan(heads: int) -> tuple[Row, ...]:
    """PHS with 1 to `heads` heads, on the query and on query and database."""
    modes = ("query", "query-db")
    return tuple(Row("phs", {"h_on": h_on}, mode) for mode in modes for h_on in range(1, heads + 1))


JUDGED = (
    Row("cbir"),
    *(Row("phs", {"h_on": 5} | ({"rule": rule} if rule else {})) for rule in
      ("", "sign_margin", "hard_1nn", "blend", "rocchio", "svm", "logistic")),
)  # fmt: skip
Kind = (
    PromptedRetrieval
    | TextRetrieval
    | Captioning
    | DatasetStats
    | Figure
    | QueryPerturbation
    | CaptionSteering
    | PerturbationCost
    | RelevanceFeedback
    | Clustering
    | InstanceRetrieval
    | ProposalRecall
)
_ALL: tuple[Kind, ...] = (
    PromptedRetrieval(
        "coco-small",
        "Every method and head count on coco_small, leave-one-out",
        ("coco_small",),
        ("mini",),
        (
            Row("cbir"),
            *RIVALS,
            *head_scan(12),
            Row("phs", {"h_on": 5, "roi": "max"}),
            *(Row("phs", {"h_on": 5, "variant": v}) for v in ("before", "after", "after+scale", "identity")),
            Row("foveal|phs", {"h_on": 5}),
            Row("attention_mask|phs", {"h_on": 5}),
            Row("crop|phs", {"h_on": -1}),
        ),
        10,
    ),
    PromptedRetrieval(
        "mini-pointing",
        "Small things (1 to 5 % of the picture) of held-out playroom scenes, and COCO photos never trained on",
        ("playroom", "playroom-instances", "coco_small"),
        ("mini",),
        (
            Row("cbir"),
            *RIVALS,
            *(Row("phs", {"h_on": h_on}) for h_on in (3, 5, 6, 8, 10)),
            Row("phs", {"h_on": 5}, "query-db"),
            Row("foveal|phs", {"h_on": 5}),
            Row("attention_mask|phs", {"h_on": 5}),
        ),
        10,
        ("MP", "P"),
    ),
    TextRetrieval("text-flickr8k", "Words to pictures and back on the test list of Flickr8k", ("flickr8k",), ("mini",)),
    Captioning("mini-captions", "Captions of the test photos of Flickr8k, CIDEr", ("flickr8k",), ("mini",)),
    RelevanceFeedback(
        "feedback-coco-small",
        "Likes and dislikes on COCO photos: one label of the query photo is looked for",
        ("coco_small",),
        ("mini",),
        JUDGED,
    ),
    RelevanceFeedback(
        "feedback-playroom",
        "Likes and dislikes on held-out playroom scenes: the category of a small thing is looked for",
        ("playroom",),
        ("mini",),
        JUDGED,
    ),
    RelevanceFeedback(
        "feedback-playroom-text",
        "The same with words for a second thing that must be there too",
        ("playroom",),
        ("mini",),
        (Row("phs", {"h_on": 5}), Row("phs", {"h_on": 5, "words": False}), Row("cbir")),
        worded=True,
    ),
    RelevanceFeedback(
        "feedback-folders",
        "Likes and dislikes on a folder of folders: pictures of the query's own folder are looked for",
        ("folders",),
        ("mini",),
        (Row("cbir"),),
    ),
    Clustering(
        "itae-table",
        "ITAE: k-means without attention sinks, with and without registers",
        ("cifar10", "cifar100", "stl10", "tiny-imagenet"),
        tuple(f"dinov2-{size}{reg}" for size in ("small", "base", "large", "giant") for reg in ("", "-reg")),
        (Row("cbir"), Row("itae", published=("ITAE", "test split"))),
    ),
    CaptionSteering(
        "caption-steering",
        "Captions of held-out playroom scenes, pointed at small things",
        ("playroom",),
        ("mini",),
        (0, 0.5, 1, 2, 4, 6, 8),
    ),
    QueryPerturbation(
        "mini-perturbing",
        "Q-Pert of mini's own query over the last block: recall overall and on pictures whose objects are all small",
        ("playroom-captions", "coco-small-captions"),
        ("mini",),
        (
            Row("plain"),
            *(
                Row("qpert", {"boxes": "annotated", "weight": weight, "strength": strength, "theta": 0.95})
                for weight in ("1", "1-S")
                for strength in (0.2, 0.6, 1.0, 2.0)
            ),
            *(
                Row("qpert", {"boxes": "annotated", "mode": mode, "strength": 1.0, "theta": 0.95})
                for mode in ("orthogonal", "legacy")
            ),
            Row("oes", {"boxes": "annotated"}),
        ),
    ),
    PromptedRetrieval(
        "mini-depth",
        "After which block mini's trunk retrieves best",
        ("coco_small",),
        tuple(f"mini-trunk:{blocks}" for blocks in range(6, 13)),
        (Row("cbir"), Row("phs", {"h_on": 5})),
        10,
    ),
    *phs.EXPERIMENTS,
    *phs.FIGURES,
    *qpert.EXPERIMENTS,
    *mao.EXPERIMENTS,
)
EXPERIMENTS = {experiment.name: experiment for experiment in _ALL}

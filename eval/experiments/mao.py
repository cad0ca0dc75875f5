"""The MaO paper's tables, and needles: instances found on scenes of many objects."""

from __future__ import annotations

from eval.experiments.specs import InstanceRetrieval, ProposalRecall, Row

BOXES = ("annotated", "detected")
MINI_OPTIONS = {"alpha": 1.0, "steps": 40}  # what needles-dev chose for mini: foir.small_objects.mao.MODES["mini"]


def _main(encoder: str, plain: str) -> InstanceRetrieval:
    """The main table for one backbone; what its plain feature is called there."""
    own = tuple(
        Row("mao", {"boxes": boxes, **({"trained": True} if trained else {})},
            published=("MaO", "fine-tuned" if trained else "zero-shot"))
        for boxes in BOXES for trained in (False, True)
    )  # fmt: skip
    others = tuple(
        Row(name, {"state": state}, published=(name, state))
        for name in ("GSS", "SuperGlobal", "AMES", "alpha-CLIP", "PDM")
        for state in ("zero-shot", "fine-tuned", "unstated")
    )
    return InstanceRetrieval(
        f"mao-main-{encoder}",
        f"MaO, main table: VoxDet, PerMiR and INSTRE with {encoder}",
        ("voxdet", "permir", "instre-xs", "instre-xxs"),
        (encoder,),
        (
            Row("cls", published=(plain, "zero-shot")),
            Row("cls", {"trained": True}, published=(plain, "fine-tuned")),
            Row("gem", published=("GeM", "zero-shot")),
            *(Row(method, {"boxes": boxes}) for boxes in BOXES for method in ("mean", "max", "maskinversion")),
            *own,
            *others,
        ),
        ("SoIR README", "main (papernotes digest)"),
    )


EXPERIMENTS: tuple[InstanceRetrieval | ProposalRecall, ...] = (
    InstanceRetrieval(
        "needles-playroom",
        "Toys that no model here was trained on, 0.5 to 5 % of scenes with up to 30 things",
        ("needles-playroom",),
        ("mini",),
        (
            Row("cls"),
            Row("gem"),
            *(
                Row(method, {"boxes": boxes, **options})
                for boxes in BOXES
                for method, options in (("mean", {}), ("max", {}), ("full-image", MINI_OPTIONS), ("mao", MINI_OPTIONS))
            ),
            *(
                Row(method, {"trained": True, **options})
                for method, options in (
                    ("cls", {}),
                    ("mean", {"boxes": "annotated"}),
                    ("mao", {"boxes": "annotated", **MINI_OPTIONS}),
                )
            ),
        ),
    ),
    InstanceRetrieval(
        "needles-dev",
        "How much Stage B of MaO should lean on the crops' own vectors, and for how long, for mini",
        ("needles-dev",),
        ("mini",),
        (
            Row("cls"),
            Row("mean", {"boxes": "annotated"}),
            *(
                Row("mao", {"boxes": "annotated", "alpha": alpha, "steps": steps})
                for alpha in (0.1, 0.3, 1.0, 3.0)
                for steps in (20, 40)
            ),
            Row("mao", {"boxes": "annotated"}),
        ),
    ),
    InstanceRetrieval(
        "needles-resolution",
        "The same scenes at half and at double resolution",
        ("needles-playroom-320", "needles-playroom-1280"),
        ("mini",),
        (Row("cls"), Row("mean", {"boxes": "annotated"}), Row("mao", {"boxes": "annotated", **MINI_OPTIONS})),
    ),
    ProposalRecall(
        "proposals",
        "Objects that the class-free proposals of mini find",
        ("playroom-captions", "coco-small-captions"),
        ("mini",),
    ),
    _main("dinov2-base", "DINOv2"),
    _main("clip-base-projected", "CLIP"),
    _main("siglip-base", "SigLIP"),
    InstanceRetrieval(
        "mao-ablation",
        "MaO, ablation: backbone, full-image optimisation, all objects jointly",
        ("voxdet",),
        ("dinov2-base",),
        (
            Row("cls", published=("MaO", "backbone zero-shot")),
            Row("cls", {"trained": True}, published=("MaO", "+fine-tuning")),
            *(
                Row(method, {"boxes": boxes, "trained": True}, published=("MaO", name))
                for boxes in BOXES
                for method, name in (
                    ("full-image", "+full-image optimisation"),
                    ("mao", "+multi-object optimisation (MaO)"),
                )
            ),
            *(Row(method, {"boxes": boxes}) for boxes in BOXES for method in ("full-image", "released", "mao")),
        ),
        ("ablation",),
    ),
)

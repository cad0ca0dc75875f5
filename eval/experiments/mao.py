"""The tables of the MaO paper. Its numbers are in eval/report/published."""

from __future__ import annotations

from .dataset_stats import InstanceStats
from .instance_retrieval import BOXES, InstanceRetrieval
from .specs import Row

SAME_COLUMNS = (
    "A method without boxes has one row: its published value is the same for annotated and for detected boxes, in the "
    "columns VoxDet and VoxDetW, PerMiR and PerMiRW."
)


def _main_table(encoder: str, plain: str) -> InstanceRetrieval:
    """The main table for one backbone; `plain` is the paper's name of its plain feature."""
    mao = tuple(
        Row("mao", {"boxes": boxes, **({"trained": True} if trained else {})},
            published=("MaO", "fine-tuned" if trained else "zero-shot"))
        for boxes in BOXES for trained in (False, True)
    )  # fmt: skip
    others = tuple(
        Row(name, {"state": state}, published=(name, state))
        for name in ("GSS", "GeM", "SuperGlobal", "AMES", "alpha-CLIP", "PDM")
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
            Row("gem"),  # of the backbone's patches; the paper's GeM is another network
            *(Row(method, {"boxes": boxes}) for boxes in BOXES for method in ("mean", "max", "maskinversion")),
            *mao,
            *others,
        ),
        ("SoIR README", "main (papernotes digest)"),
        note=SAME_COLUMNS,
    )


ABLATION = (("full-image", "+full-image optimisation"), ("mao", "+multi-object optimisation (MaO)"))
EXPERIMENTS = (
    _main_table("dinov2-base", "DINOv2"),
    _main_table("clip-base-projected", "CLIP"),
    _main_table("siglip-base", "SigLIP"),
    InstanceRetrieval(
        "mao-ablation", "MaO, ablation: backbone, full-image optimisation, all objects jointly", ("voxdet",),
        ("dinov2-base",),
        (
            Row("cls", published=("MaO", "backbone zero-shot")),
            Row("cls", {"trained": True}, published=("MaO", "+fine-tuning")),
            *(
                Row(method, {"boxes": boxes, "trained": True}, published=("MaO", name))
                for boxes in BOXES
                for method, name in ABLATION
            ),
            *(Row(method, {"boxes": boxes}) for boxes in BOXES for method in ("full-image", "released", "mao")),
        ),
        ("ablation",),
        note=SAME_COLUMNS,
    ),
    InstanceStats(
        "mao-stats", "MaO: sizes of its data sets and of the objects on their scenes",
        ("voxdet", "permir", "instre-xs", "instre-xxs"),
    ),
)  # fmt: skip

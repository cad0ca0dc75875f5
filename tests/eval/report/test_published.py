"""Published values are found for the paper's data sets and encoders only."""

import pytest

from eval.report import published


def test_published_values_stand_only_beside_what_the_paper_measured():
    assert published.value("phs", "1", "coco", "dinov2-base-reg", ("CBIR", ""), "MP@100") == 57.4
    assert published.value("phs", "1", "coco_small", "dinov2-base-reg", ("CBIR", ""), "MP@100") is None
    assert published.value("phs", "1", "coco", "mini", ("CBIR", ""), "MP@100") is None
    assert published.value("phs", "A2", "visual_genome", "dinov2-giant-reg", ("PHS", "query-db"), "MP@100") == 30.0


@pytest.mark.parametrize(
    ("dataset", "encoder", "names", "value"),
    [
        ("voxdet", "dinov2-base", ("MaO", "zero-shot"), 70.20),
        ("voxdet", "clip-base-projected", ("CLIP", "zero-shot"), 44.52),
        ("instre-xxs", "siglip-base", ("AMES", "fine-tuned"), 68.08),
        ("permir", "dinov2-base", ("MaO", "fine-tuned"), 90.07),
    ],
)
def test_published_numbers_are_found(dataset, encoder, names, value):
    assert published.value("mao", "SoIR README", dataset, encoder, names, "mAP") == value

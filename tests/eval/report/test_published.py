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


@pytest.mark.parametrize(
    ("dataset", "name", "value"),
    [
        ("coco", "n_query_images", 5000),
        ("voc", "n_db_images", 16551),
        ("visual_genome", "n_categories", 100),
        ("permir", "n_gallery", 450),
        ("voxdet", "test scenes", 24),
    ],
)
def test_sizes_that_the_papers_state_are_found(dataset, name, value):
    assert published.fact(dataset, name) == value


def test_no_size_is_stated_of_other_data_sets():
    assert published.fact("coco_small", "n_query_images") is None
    assert published.fact("voc", "n_gallery") is None

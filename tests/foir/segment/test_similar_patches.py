"""Similar patches are connected to the prompted ones."""

from typing import Any

from foir import Prompt, segment
from foir.patches import rasterise
from foir.segment import similar_patches
from tests.conftest import scene


def test_patches_alike_hang_together_with_what_is_pointed_at(toy):
    prompt, image = Prompt.point(50, 40), scene(0)
    mask = rasterise(prompt, image.size, toy.grid)
    found = similar_patches.SimilarPatches(toy).outline(image)(prompt, mask)
    assert found[mask.pixels].all() and found.shape == (120, 160)
    chosen: Any = segment.load_segmenter(toy)
    assert chosen.__self__ == similar_patches.SimilarPatches(toy)

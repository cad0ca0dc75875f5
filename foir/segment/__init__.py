"""From a prompt to an object's mask: SAM where FOIR_SAM names its weights, patch features otherwise."""

from foir.segment.loader import DEFAULT_SAM, load_sam, load_segmenter
from foir.segment.outline import Outline, Segmenter, click_points

__all__ = ["DEFAULT_SAM", "Outline", "Segmenter", "click_points", "load_sam", "load_segmenter"]

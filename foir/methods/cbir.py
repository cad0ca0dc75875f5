"""Content-based image retrieval: the plain feature of the whole picture, whatever is pointed at."""

from __future__ import annotations

from foir.encoders.intervention import PLAIN, Intervention
from foir.methods import method
from foir.patches import PatchMask
from foir.prompts import Prompt


@method("cbir", title="Whole picture", summary="Ignores the prompt and compares whole pictures.", uses_prompt=False)
def cbir(prompt: Prompt, mask: PatchMask) -> Intervention:
    """The identity (PHS paper, Eqs 1-6)."""
    return PLAIN

"""Words for `mini`: MiniLM with a trained head, and captions by a small decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from foir.crossmodal import Crossmodal, Words, crossmodal, cut_notes

if TYPE_CHECKING:
    from foir.encoders.base import Encoder


@crossmodal("mini")
def build(encoder: Encoder) -> Crossmodal:
    """Load the text side of `mini`."""
    import torch

    from foir.mini import caption, text, towers

    head = towers.text_head()
    writer = caption.load()

    @torch.inference_mode()
    def words(texts: Sequence[str]) -> Words:
        states, lengths, cut = text.states(texts)
        return Words(head(states, lengths).numpy(), cut_notes(cut, text.TOKENS))

    return Crossmodal(encoder, words, lambda prefix: writer.write(prefix.block.tokens.float().cpu()))

"""What a method may do to an encoder's forward pass: edit pixels, edit CLS logits, select heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from foir.errors import BadPrompt

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from foir.encoders.block import LastBlock

PixelStep = Callable[["Image.Image"], "Image.Image"]
LogitStep = Callable[["LastBlock", "Tensor"], "Tensor"]
HeadStep = Callable[["LastBlock", "Tensor"], "HeadGate"]


@dataclass(frozen=True)
class HeadGate:
    """Selected attention heads of the last block and their scale. Hashable, so equal gates can share work.

    Attributes:
        before: Factor of each head's output before the output projection W_o, length h.
        after: Factor of each head-wide chunk of channels after W_o, length h, or None for no change.
        own: Heads that attend to their own token only (identity attention), length h, or None.
    """

    before: tuple[float, ...]
    after: tuple[float, ...] | None = None
    own: tuple[bool, ...] | None = None

    @property
    def on(self) -> tuple[int, ...]:
        """The selected heads, ascending."""
        if self.own is not None:
            return tuple(i for i, own in enumerate(self.own) if not own)
        factors = self.before if self.after is None else self.after
        return tuple(i for i, factor in enumerate(factors) if factor)

    def apply(self, z: Tensor, cls_values: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Gate the CLS head outputs.

        Args:
            z: Head outputs of the CLS row, [..., h, d_k].
            cls_values: Values of the CLS token, [..., h, d_k]; needed only where `own` is set.

        Returns:
            The gated head outputs, and the channel scale [d] after W_o (None for no change).

        Raises:
            BadPrompt: `own` is set without CLS values, as in a head cache.
        """
        if self.own is not None:
            if cls_values is None:
                raise BadPrompt("The identity variant needs CLS values, which a head cache does not hold.")
            z = z.where(~z.new_tensor(self.own).bool()[:, None], cls_values)
        z = z * z.new_tensor(self.before)[:, None]
        after = None if self.after is None else z.new_tensor(self.after).repeat_interleave(z.shape[-1])
        return z, after


@dataclass(frozen=True)
class Intervention:
    """Up to three steps that `Encoder.features` and `Encoder.finish` call in this order; none is plain retrieval.

    Attributes:
        pixels: `(RGB image) -> image`. An RGBA result blanks the pixels that its alpha hides (0 after normalisation).
        logits: For block L-k of L, `logits[k](block, CLS logits [h, T]) -> [h, T]`.
        heads: `(block, CLS attention [h, T]) -> HeadGate`, in the last block, after its logits step.
        reframes: After the pixels step the region of interest is the whole image (Crop).
        notes: What a user should know about how the prompt was read.
    """

    pixels: PixelStep | None = None
    logits: Mapping[int, LogitStep] = field(default_factory=dict)
    heads: HeadStep | None = None
    reframes: bool = False
    notes: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """Number of last blocks that run again: 1 re-runs only the CLS row of the last block."""
        return 1 + max(self.logits, default=0)

    def __or__(self, after: Intervention) -> Intervention:
        """Chain: `after` sees the result of this one.

        Raises:
            BadPrompt: Both select heads; the second selection would undo the first.
        """
        if self.heads and after.heads:
            raise BadPrompt("Two head selections cannot be chained: keep one of them.")
        logits = dict(self.logits)
        for k, step in after.logits.items():
            logits[k] = _then(logits[k], step) if k in logits else step
        return Intervention(
            pixels=_both(self.pixels, after.pixels),
            logits=logits,
            heads=self.heads or after.heads,
            reframes=self.reframes or after.reframes,
            notes=self.notes + after.notes,
        )


PLAIN = Intervention()


def _then(first: LogitStep, second: LogitStep) -> LogitStep:
    return lambda block, logits: second(block, first(block, logits))


def _both(first: PixelStep | None, second: PixelStep | None) -> PixelStep | None:
    if first is None or second is None:
        return first or second
    return lambda image: second(first(image))

"""The cost of Stage B of MaO: hand-written maps, autograd on a graph built once, the backbone in every step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir import encoders
from foir.encoders.base import Encoder
from foir.playroom import compose
from foir.small_objects import legrad, mao

OBJECTS, STEPS, FEW = 8, 80, 4
Maps = Callable[[Tensor], Tensor]
_Result = TypeVar("_Result")
HEAD = (
    "| encoder | dtype | by hand, ms an object | opening the crops | graph built once | ratio | backbone each step "
    "| ratio | 1 - cosine of the vectors | of the graph and the same crops reversed |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


def main() -> str:
    """Measure `mini` and DINOv2-base with random weights, in float32 and float64; returns a Markdown table.

    The last columns tell how far the vectors of both ways, and those of the same crops in another order, are apart.
    """
    lines = [
        f"{OBJECTS} objects of one picture, {STEPS} steps, {torch.get_num_threads()} threads; the loop that runs the "
        f"backbone in every step is timed over {FEW} of them.",
        "",
        *HEAD,
    ]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name in ("mini", "dinov2-base-reg"):
        for dtype in (torch.float32, torch.float64):
            encoder = encoders.load(name, pretrained=name == "mini", device=device).to(device, dtype)
            lines.append(f"| {name} | {str(dtype).removeprefix('torch.')} | {measure(encoder)} |")
    return "\n".join(lines)


def measure(encoder: Encoder) -> str:
    """One row of the table."""
    pixels = encoder.pixels([compose("held-out", number).image for number in range(OBJECTS)])
    masks = torch.zeros(OBJECTS, encoder.size, encoder.size, device=encoder.device, dtype=encoder.dtype)
    for number in range(OBJECTS):
        corner = encoder.size * (1 + number % 4) // 8
        masks[number, corner : corner + encoder.size // 4, corner : corner + encoder.size // 3] = 1
    legrad.encode_crops(encoder, pixels)  # what only the first call costs
    crops, opening = _timed(lambda: legrad.encode_crops(encoder, pixels))
    owner = torch.zeros(OBJECTS, dtype=torch.int64, device=encoder.device)
    hand_vector, hand = _timed(lambda: mao.optimise(crops, masks, owner)[0])
    built_graph = graph(encoder, pixels)
    graph_vector, built = _timed(lambda: loop(crops, masks, built_graph, STEPS))
    order = torch.arange(OBJECTS - 1, -1, -1, device=encoder.device)
    reversed_order = loop(crops.take(order), masks[order], graph(encoder, pixels.flip(0)), STEPS)
    _, backbone_seconds = _timed(lambda: loop(crops, masks, lambda vectors: graph(encoder, pixels)(vectors), FEW))
    backbone_seconds *= STEPS / FEW
    per = [1000 * seconds / OBJECTS for seconds in (hand, opening, built)]
    return (
        f"{per[0]:.0f} | {per[1]:.0f} | {per[2]:.0f} | {built / hand:.2f} | {1000 * backbone_seconds / OBJECTS:.0f} | "
        f"{backbone_seconds / hand:.1f} | {1 - float(hand_vector @ graph_vector):.1e} | "
        f"{1 - float(reversed_order @ graph_vector):.1e}"
    )


def graph(encoder: Encoder, pixels: Tensor) -> Maps:
    """The backbone, and the last block's graph from its attention on; gives maps by autograd."""
    layer, block = encoder.layers[-1], encoder.prefix(pixels).block
    x = block.tokens.clone()
    q, k, v = map(layer.split, layer.qkv(layer.norm1(x)))
    attention = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).requires_grad_(True)
    hidden = layer.tail((attention @ v).transpose(1, 2), x)
    pooled = F.normalize(encoder.project(encoder.norm(hidden.mean(1))), dim=-1)

    def maps(vectors: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad((pooled * vectors).sum(), attention, create_graph=True)
        return gradient.relu().mean((1, 2))[:, block.first_patch :].view(len(x), *encoder.grid)

    return maps


def loop(crops: legrad.CropFeatures, masks: Tensor, maps: Maps, steps: int) -> Tensor:
    """Stage B in pixels, as the paper states it, with maps from elsewhere; the unit vector."""
    mode = mao.MODES["paper"]
    raw = (crops.vectors * crops.lengths).mean(0).requires_grad_(True)
    adam = torch.optim.AdamW([raw], lr=mode.rate, weight_decay=0.0)
    for _ in range(steps):
        adam.zero_grad()
        unit = F.normalize(raw, dim=-1).expand(len(crops), -1)
        large = F.interpolate(maps(unit)[None], masks.shape[1:], mode="bilinear")[0]
        low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
        heat = (large - low) / (high - low)
        overlap = (heat * masks).sum((1, 2)) / (heat + masks - heat * masks).sum((1, 2))
        total = overlap.sum() + mode.alpha * (unit * crops.vectors).sum()
        (raw.grad,) = torch.autograd.grad(-total, raw)
        adam.step()
    return F.normalize(raw.detach(), dim=-1)


def _timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
    _wait()
    started = time.perf_counter()
    result = work()
    _wait()
    return result, time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()

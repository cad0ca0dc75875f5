"""The cost of Table 1 of the PHS paper on COCO: counted operations and bytes, and the seconds measured here."""

from __future__ import annotations

import io
import logging
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from foir import encoders, image_text, images
from foir.encoders.base import Encoder, Features
from foir.errors import Unavailable
from foir.index import Space
from foir.methods import intervene
from foir.patches import rasterise
from foir.playroom import compose
from foir.prompts import Prompt

from ..experiments.phs import TABLE1
from ..metrics.ranking import rank
from .timing import timed

GALLERY, QUERY_IMAGES, PROMPTS = (
    118_287,
    5_000,
    36_335,
)  # COCO 2017 without crowds: train pictures, val pictures and boxes
SHARDS = 1024
FLOAT32 = 67e12  # operations a second of one H200 outside its tensor cores, by its data sheet
REACHED = 0.5  # assumed share, not measured


def main() -> str:
    """Count for each DINOv2 size; returns a Markdown table."""
    methods = [row.method for row in TABLE1.rows]
    decode = decode_ms()
    seconds, memory = _measure_ranking()  # first: a large encoder would hide its memory
    lines = [
        f"COCO: {GALLERY} gallery images, {QUERY_IMAGES} query images, {PROMPTS} boxes; rows {', '.join(methods)}.",
        "",
        "| encoder | GFLOP a picture | GFLOP of the prompts of a box | PFLOP of the table | features and head cache "
        "| GFLOP/s here | hours here | hours on one H200 at half its float32 rate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in TABLE1.encoders:
        encoder = encoders.load(name, device="cpu", pretrained=False)
        image, prompts, features, rate = counted(encoder, methods)
        total = image * (GALLERY + QUERY_IMAGES) + prompts * PROMPTS
        total += 2 * len(methods) * PROMPTS * GALLERY * features.vectors.shape[1]
        size = 4 * GALLERY * (features.vectors.numel() + features.z.numel() + features.residual.numel())
        lines.append(
            f"| {name} | {image / 1e9:.1f} | {prompts / 1e9:.1f} | {total / 1e15:.2f} | {size / 1e9:.1f} GB "
            f"| {rate / 1e9:.0f} | {total / rate / 3600:.1f} | {total / (REACHED * FLOAT32) / 3600:.2f} |"
        )
    lines += [
        "",
        f"Reading a photo of 640 x 480 and resizing it: {decode:.1f} ms of one core, "
        f"{decode * GALLERY / 3.6e6:.2f} core hours for the gallery.",
        f"The best 100 of {GALLERY} made-up vectors for {SHARDS} queries: {seconds:.1f} s here, "
        f"and never more than {memory:.0f} MB beside the vectors.",
    ]
    return "\n".join(lines)


def counted(encoder: Encoder, methods: list[str]) -> tuple[float, float, Features, float]:
    """Operations of one image, of one box with all methods, the image's features, and operations per second here."""
    scene = compose("held-out", 0)
    image, prompt = scene.image, Prompt.box(*scene.objects[0].box)
    mask = rasterise(prompt, image.size, encoder.grid)
    pixels = encoder.pixels([image])
    prefix = encoder.prefix(pixels)

    def encode() -> Features:
        return encoder.finish(encoder.prefix(pixels))

    features, seconds = timed(encode)
    total = operations(encode)
    steps = [[intervene(method, prompt, mask)] for method in methods]
    prompts = sum(operations(partial(encoder.features, image, step, prefix)) for step in steps)
    return total, prompts, features, total / seconds


def operations(call: Callable[[], object]) -> float:
    """Floating-point operations of a call, as PyTorch counts them: those of fused attention on a CPU it does not."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


@dataclass(frozen=True)
class ModelShape:
    """What a model costs, whatever its weights.

    Attributes:
        parameters: Their number; 0 where it is not known.
        operations: Floating-point operations of one image; 0 where they are not known.
        cached: Numbers that the features and head cache of one image hold.
        blocks: Blocks of the image tower; 0 where it is no encoder.
    """

    parameters: int = 0
    operations: float = 0
    cached: int = 0
    blocks: int = 0


@cache
def model_shape(name: str) -> ModelShape:
    """Count a model on PyTorch's "meta" device, where tensors have shapes and no data."""
    entry = image_text.models().get(name)
    try:
        with torch.device("meta"), _quiet():
            if entry is not None and entry.standalone:
                model: Any = entry.build(name, None, "meta", "float32", False)
                image = Image.new("RGB", (8, 8))
                return ModelShape(_parameters(model.model), operations(lambda: model.encode_images([image])))
            spec = encoders.encoder_spec(name)
            encoder = spec.build(spec, name, None, False).to("meta", torch.float32)
    except Unavailable:  # it has no untrained form
        try:
            encoder = encoders.load(name, device="cpu")
        except Unavailable:
            return ModelShape(entry.parameters if entry is not None else 0)
    pixels = torch.empty(1, 3, encoder.size, encoder.size, device=encoder.device)
    features: list[Features] = []
    total = operations(lambda: features.append(encoder.finish(encoder.prefix(pixels))))
    cached = sum(tensor.numel() for tensor in (features[0].vectors, features[0].z, features[0].residual))
    return ModelShape(_parameters(encoder.module), total, cached, len(encoder.layers))


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without open_clip's warning that weights are random."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def decode_ms() -> float:
    """Milliseconds of a core to read and resize a photo."""
    photo = compose("held-out", 1, size=(640, 480)).image
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=90)

    def read() -> Image.Image:
        return images.read(buffer.getvalue()).image.resize((224, 224), Image.Resampling.BICUBIC)

    return 1e3 * timed(lambda: [read() for _ in range(20)])[1] / 20


def _measure_ranking() -> tuple[float, float]:
    """Seconds of one ranking at COCO's size, and the growth of the process's peak memory in MB."""
    encoder = encoders.load("dinov2-base-reg", device="cpu", pretrained=False)
    rng = np.random.default_rng(0)
    dim = encoder.reference_feature().shape[0]
    shards = tuple(
        rng.standard_normal((min(SHARDS, GALLERY - start), dim), np.float32) for start in range(0, GALLERY, SHARDS)
    )
    gallery = Space("made up", "", np.empty(0), shards, (), ())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, seconds = timed(lambda: rank(encoder, gallery, "query", [None] * SHARDS, shards[0], 100))
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

"""Stage A of MaO: fine-tunes a backbone so that a scene's mean crop matches an image of one object (spec, section 3).

`python -m foir.small_objects.finetune --encoder dinov2-base --data voxdet --out FILE` trains LoRA on queries, keys and
values with InfoNCE between v_c, the unit mean of a scene's unit crops, and v_q, an image of one of its objects alone.
The paper leaves open, and we choose: temperature 0.07, unit crops before the mean, negatives in both directions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name
from tqdm import tqdm

from foir import encoders
from foir.encoders.base import Encoder
from foir.errors import Unavailable, os_errors
from foir.pretrained import copy_tensors
from foir.small_objects.crops import DetectedObject, crop_objects
from foir.small_objects.mao import mean_vector
from foir.small_objects.training_data import SOURCES, TrainingScene
from foir.terminal import Parser, path, positive_int, run_command, write

RANK, ALPHA, DROPOUT = 256, 32, 0.1
LEARNING_RATE, MIN_RATE, DECAY, DECAYS = 5e-5, 1e-6, 0.93, 50  # peak and lowest rate; factor, and its uses in a run
TEMPERATURE = 0.07
CHUNK = 32  # images whose gradients are in memory at once
MAX_CROPS = 6  # of a scene
TARGETS = ("q_proj", "k_proj", "v_proj")


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the command line; returns the exit status."""
    parser = Parser(
        prog="python -m foir.small_objects.finetune",
        description="Fine-tune a backbone for small objects (Stage A of MaO).",
        epilog="Example: %(prog)s --encoder mini --data playroom --out adapter.safetensors",
    )
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--data", choices=sorted(SOURCES), default="playroom")
    parser.add_argument("--out", type=path, required=True, help="safetensors file of the adapter")
    parser.add_argument("--scenes", type=positive_int, help="use only this many of the training scenes")
    parser.add_argument("--batch", type=positive_int, default=128)
    parser.add_argument("--rank", type=positive_int, default=RANK)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(argv)
    return run_command("foir", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    with os_errors(f"{args.out} cannot be written"):
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.open("ab").close()  # fails before the training, not after it
    available, read = SOURCES[args.data]()
    count = available if args.scenes is None else min(args.scenes, available)
    encoder = encoders.load(args.encoder, device=args.device)
    losses = train(encoder, read, count, batch=args.batch, rank=args.rank)
    with os_errors(f"{args.out} cannot be written"):
        save_adapter(encoder, args.out, {"data": args.data, "scenes": count, "batch": args.batch, "rank": args.rank})
    write(f"{args.out} written; loss {losses[0]:.3f} at first, {losses[-1]:.3f} at last")


def train(encoder: Encoder, read: Callable[[int], TrainingScene], count: int, *, batch: int, rank: int) -> list[float]:
    """Train for one epoch, in place; returns the loss of each step.

    Args:
        encoder: Its projections get low-rank updates; see `inject_lora`.
        read: Returns a training scene by its number.
        count: Number of scenes.
        batch: Scenes a step: each is a negative for all others.
        rank: Of the updates.

    Raises:
        Unavailable: The encoder has no separate projections.
    """
    torch.manual_seed(0)
    inject_lora(encoder, rank)
    parameters = [parameter for parameter in encoder.module.parameters() if parameter.requires_grad]
    adam = torch.optim.AdamW(parameters, lr=LEARNING_RATE)
    starts = range(0, count, batch)
    losses = []
    encoder.module.train()
    for step, start in enumerate(tqdm(starts, desc="steps")):
        for group in adam.param_groups:
            group["lr"] = max(MIN_RATE, LEARNING_RATE * DECAY ** (step * DECAYS // len(starts)))
        adam.zero_grad()
        losses.append(_backward(encoder, [read(number) for number in range(start, min(start + batch, count))], step))
        adam.step()
    encoder.module.eval()
    return losses


def info_nce(scenes: Tensor, queries: Tensor) -> Tensor:
    """InfoNCE of paired unit vectors [B, dim], in both directions."""
    logits = scenes @ queries.T / TEMPERATURE
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _backward(encoder: Encoder, scenes: Sequence[TrainingScene], seed: int) -> float:
    """The loss of some scenes; its gradients are added to the parameters.

    The activations of a whole batch do not fit into memory, so it is encoded twice: once for the vectors and the loss's
    gradient at them, then in chunks to propagate this gradient (GradCache, arXiv 2101.06983).
    """
    crops, owner = [], []
    for row, scene in enumerate(scenes):
        objects = crop_objects(scene.image, _sample_objects(scene.objects, row), encoder.size)
        crops += [crop.image for crop in objects] or [scene.image]
        owner += [row] * max(1, len(objects))
    images = [*crops, *(scene.query for scene in scenes)]
    starts = range(0, len(images), CHUNK)

    def encode(start: int) -> Tensor:
        torch.manual_seed(seed * len(images) + start)  # the same dropout both times
        return _features(encoder, images[start : start + CHUNK])

    with torch.no_grad():
        vectors = torch.cat([encode(start) for start in starts])
    vectors.requires_grad_(True)
    means = mean_vector(vectors[: len(crops)], torch.tensor(owner, device=vectors.device))
    loss = info_nce(means, vectors[len(crops) :])
    (gradient,) = torch.autograd.grad(loss, vectors)
    for start in starts:
        encode(start).backward(gradient[start : start + CHUNK])  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _sample_objects(objects: Sequence[DetectedObject], seed: int) -> list[DetectedObject]:
    """The first object, which is the query's, and a random sample of the others."""
    order = torch.randperm(len(objects) - 1, generator=torch.Generator().manual_seed(seed)) + 1
    return [objects[0], *(objects[i] for i in order[: MAX_CROPS - 1].tolist())]


def _features(encoder: Encoder, images: Sequence[Image.Image]) -> Tensor:
    """Plain features with gradients."""
    x = encoder.embed(encoder.pixels(images).to(encoder.device, encoder.dtype))
    for layer in encoder.layers:
        x = layer(x)
    return encoder.pooled_feature(x)


def inject_lora(encoder: Encoder, rank: int) -> None:
    """Add low-rank updates to an encoder's queries, keys and values and freeze all other parameters.

    Raises:
        Unavailable: The encoder has no separate projections.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if not any(name.endswith(TARGETS) for name, _ in encoder.module.named_modules()):
        raise Unavailable(f"{encoder.name} keeps queries, keys and values in one matrix: it cannot be fine-tuned here.")
    config = LoraConfig(r=rank, lora_alpha=ALPHA, lora_dropout=DROPOUT, target_modules=list(TARGETS))
    encoder.module.requires_grad_(False)
    inject_adapter_in_model(config, encoder.module)


def save_adapter(encoder: Encoder, path: Path, facts: dict[str, Any]) -> None:
    """Save a trained encoder's updates; the file's header holds the encoder and `facts` about the training."""
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(encoder.module)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {**facts, "encoder": encoder.name, "revision": encoder.revision}
    path.write_bytes(save(state, {"foir": json.dumps(header, sort_keys=True)}))


def load_adapter(encoder: Encoder, path: Path) -> Encoder:
    """Merge a file's updates into the encoder; the result's revision names the file's digest.

    Raises:
        Unavailable: The file cannot be read, or belongs to another encoder.
    """
    from peft import get_peft_model_state_dict

    try:
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["foir"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise Unavailable(f"{path} is no adapter of foir.") from error
    if (header["encoder"], header["revision"]) != (encoder.name, encoder.revision):
        raise Unavailable(f"{path} was trained on {header['encoder']} ({header['revision']}), not this {encoder.name}.")
    inject_lora(encoder, header["rank"])
    copy_tensors(get_peft_model_state_dict(encoder.module), state, f"{path} is no adapter of foir", "train it again")
    for parent, name, lora in list(_lora_layers(encoder.module)):
        lora.merge()
        setattr(parent, name, lora.get_base_layer())
    encoder.module.to(encoder.device, encoder.dtype).eval().requires_grad_(False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return replace(encoder, revision=f"{encoder.revision}+{digest}")


def _lora_layers(module: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    from peft.tuners.lora import LoraLayer

    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, LoraLayer):
                yield parent, name, child


if __name__ == "__main__":
    raise SystemExit(main())

"""Stage A of MaO: a backbone's mean of crops learns to match the picture of one of its objects (spec, section 3).

`python -m foir.small_objects.finetune --encoder dinov2-base --data voxdet --out FILE` trains LoRA on queries, keys and
values with InfoNCE between v_c, the unit mean of a scene's unit crops, and v_q, a picture of one of its objects alone.
What the paper does not give is chosen here: temperature 0.07, units before the mean, negatives in both directions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
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
from foir.errors import FoirError, Unavailable
from foir.small_objects.crops import DetectedObject, crop_objects
from foir.small_objects.mao import mean_vector
from foir.small_objects.training_data import DATA, Lesson

RANK, ALPHA, DROPOUT = 256, 32, 0.1
RATE, LEAST, DECAY, DECAYS = 5e-5, 1e-6, 0.93, 50  # learning rate, its floor, and how often it shrinks in a run
TEMPERATURE = 0.07
SLICE = 32  # pictures whose gradients are in memory at once
CROPS = 6  # of a scene at most; more do not fit beside each other
TARGETS = ("q_proj", "k_proj", "v_proj")


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Fine-tune a backbone for small objects (Stage A of MaO).")
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--data", choices=sorted(DATA), default="playroom")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file of the adapter")
    parser.add_argument("--scenes", type=_count, help="only so many of the training scenes")
    parser.add_argument("--batch", type=_count, default=128)
    parser.add_argument("--rank", type=_count, default=RANK)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(argv)
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.open("ab").close()  # what cannot be written is told before the training, not after it
        lessons, lesson = DATA[args.data]()
        count = lessons if args.scenes is None else min(args.scenes, lessons)
        encoder = encoders.load(args.encoder, device=args.device)
        losses = train(encoder, lesson, count, batch=args.batch, rank=args.rank)
        write(encoder, args.out, {"data": args.data, "scenes": count, "batch": args.batch, "rank": args.rank})
    except OSError as error:
        sys.stderr.write(f"foir: {args.out} cannot be written: {error.strerror}.\n")
        return 1
    except FoirError as error:
        sys.stderr.write(f"foir: {error}\n")
        return 1
    sys.stdout.write(f"{args.out} written; loss {losses[0]:.3f} at first, {losses[-1]:.3f} at last\n")
    return 0


def _count(text: str) -> int:
    """A whole number of at least 1."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def train(encoder: Encoder, lesson: Callable[[int], Lesson], count: int, *, batch: int, rank: int) -> list[float]:
    """Train for one epoch, in place; returns the loss of each step.

    Args:
        encoder: Its projections get updates of low rank; see `injected`.
        lesson: Gives a training scene by its number.
        count: How many there are.
        batch: Scenes a step: each is a negative for all others.
        rank: Of the updates.

    Raises:
        Unavailable: The encoder has no separate projections.
    """
    torch.manual_seed(0)
    injected(encoder, rank)
    parameters = [parameter for parameter in encoder.module.parameters() if parameter.requires_grad]
    adam = torch.optim.AdamW(parameters, lr=RATE)
    starts = range(0, count, batch)
    losses = []
    encoder.module.train()
    for step, start in enumerate(tqdm(starts, desc="steps")):
        rate = max(LEAST, RATE * DECAY ** (step * DECAYS // len(starts)))
        for group in adam.param_groups:
            group["lr"] = rate
        adam.zero_grad()
        losses.append(_descend(encoder, [lesson(number) for number in range(start, min(start + batch, count))], step))
        adam.step()
    encoder.module.eval()
    return losses


def info_nce(scenes: Tensor, queries: Tensor) -> Tensor:
    """InfoNCE of unit vectors [B, dim], pair by pair, over both directions."""
    logits = scenes @ queries.T / TEMPERATURE
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _descend(encoder: Encoder, lessons: Sequence[Lesson], seed: int) -> float:
    """The loss of some scenes; its gradients reach the parameters.

    All pictures of a batch would not fit into memory with what their gradients need, so they are looked at twice: for
    the vectors and the loss's gradient at them, then a few at a time to take it further (GradCache, arXiv 2101.06983).
    """
    crops, owner = [], []
    for number, lesson in enumerate(lessons):
        cuts = crop_objects(lesson.image, _some(lesson.things, number), encoder.size)
        crops += [one.image for one in cuts] or [lesson.image]
        owner += [number] * max(1, len(cuts))
    images = [*crops, *(lesson.wanted for lesson in lessons)]
    parts = range(0, len(images), SLICE)

    def looked(start: int) -> Tensor:
        torch.manual_seed(seed * len(images) + start)  # the same dropout both times
        return _plain(encoder, images[start : start + SLICE])

    with torch.no_grad():
        vectors = torch.cat([looked(start) for start in parts])
    vectors.requires_grad_(True)
    means = mean_vector(vectors[: len(crops)], torch.tensor(owner, device=vectors.device))
    loss = info_nce(means, vectors[len(crops) :])
    (gradient,) = torch.autograd.grad(loss, vectors)
    for start in parts:
        looked(start).backward(gradient[start : start + SLICE])  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _some(things: Sequence[DetectedObject], seed: int) -> list[DetectedObject]:
    """The first, which is asked for, and some of the others."""
    order = torch.randperm(len(things) - 1, generator=torch.Generator().manual_seed(seed)) + 1
    return [things[0], *(things[place] for place in order[: CROPS - 1].tolist())]


def _plain(encoder: Encoder, images: Sequence[Image.Image]) -> Tensor:
    """Plain features with gradients."""
    x = encoder.embed(encoder.pixels(images).to(encoder.device, encoder.dtype))
    for layer in encoder.layers:
        x = layer(x)
    return encoder.pooled_feature(x)


def injected(encoder: Encoder, rank: int) -> None:
    """Put updates of low rank beside an encoder's queries, keys and values; all else stays as it is.

    Raises:
        Unavailable: It has no separate projections to put them beside.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if not any(name.endswith(TARGETS) for name, _ in encoder.module.named_modules()):
        raise Unavailable(f"{encoder.name} keeps queries, keys and values in one matrix: it cannot be fine-tuned here.")
    config = LoraConfig(r=rank, lora_alpha=ALPHA, lora_dropout=DROPOUT, target_modules=list(TARGETS))
    encoder.module.requires_grad_(False)
    inject_adapter_in_model(config, encoder.module)


def write(encoder: Encoder, path: Path, facts: dict[str, Any]) -> None:
    """Write a trained encoder's updates, with which encoder they are for and how they were made."""
    from peft import get_peft_model_state_dict

    state = {
        name: value.detach().cpu().contiguous() for name, value in get_peft_model_state_dict(encoder.module).items()
    }
    about = {**facts, "encoder": encoder.name, "revision": encoder.revision}
    path.write_bytes(save(state, {"foir": json.dumps(about, sort_keys=True)}))


def adapted(encoder: Encoder, path: Path) -> Encoder:
    """The encoder with a file's updates folded in; its revision says so.

    Raises:
        Unavailable: The file cannot be read, or is for another encoder.
    """
    from peft import set_peft_model_state_dict

    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["foir"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise Unavailable(f"{path} is no adapter of foir.") from error
    if (about["encoder"], about["revision"]) != (encoder.name, encoder.revision):
        raise Unavailable(f"{path} was trained on {about['encoder']} ({about['revision']}), not this {encoder.name}.")
    injected(encoder, about["rank"])
    set_peft_model_state_dict(encoder.module, state)
    for parent, name, lora in list(_updates(encoder.module)):
        lora.merge()
        setattr(parent, name, lora.get_base_layer())
    encoder.module.to(encoder.device, encoder.dtype).eval().requires_grad_(False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return replace(encoder, revision=f"{encoder.revision}+{digest}")


def _updates(module: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    from peft.tuners.lora import LoraLayer

    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, LoraLayer):
                yield parent, name, child


if __name__ == "__main__":
    raise SystemExit(main())

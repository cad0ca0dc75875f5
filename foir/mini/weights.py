"""The trained parts of `mini` on top of the frozen backbone and the frozen text model, and their file.

Image tower: the backbone's early blocks with low-rank updates (LoRA, arXiv 2106.09685), its later ones trained as a
whole (the last with twelve heads of 32, so that head selection has a choice), final LayerNorm, one linear map. Which
blocks are which is what the file holds. Text tower: `foir.mini.text_encoder`. Both end in one space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from foir.encoders import dinov2
from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.mini import VERSION, backbone, text_encoder
from foir.mini.text_encoder import TextHead
from foir.pretrained import copy_tensors

FILE = Path(__file__).parents[1] / "assets" / "mini" / "towers.safetensors"
DOWN, UP = ".down.weight", ".up.weight"  # the two factors of a low-rank update in the file
ALWAYS_TRAINED = ("model.encoder.layer.11.", "model.layernorm.", "project.")
REMEDY = "restore it from the repository"
HEADS, DIM = 12, 384  # heads of the last block, width of the joint space


class ImageTower(nn.Module):
    """The backbone, its last block with twelve heads, and a map to the joint space."""

    def __init__(self) -> None:
        super().__init__()
        self.model: Any = backbone.load(backbone.BLOCKS)
        self.model.encoder.layer[-1].attention.num_attention_heads = HEADS
        self.project = nn.Linear(backbone.DIM, DIM)

    def as_encoder(self, revision: str) -> Encoder:
        """The tower as an encoder that shares its modules."""
        return replace(dinov2.wrap(self.model, "mini", revision), project=self.project, module=self)

    @torch.no_grad()
    def apply_trained(self, tensors: Mapping[str, Tensor], failure: str) -> None:
        """Put the weights of a file into the tower.

        Args:
            tensors: By name, of the tower's own shapes; but `X.down.weight` [r, in] and `X.up.weight` [out, r] are a
                low-rank update that is added to `X.weight`.
            failure: What does not fit what, for the error.

        Raises:
            Unavailable: A weight is not the tower's, or one that every training changes is missing.
        """
        state = self.state_dict()
        slots: dict[str, Tensor] = {name: state[name] for name in state.keys() & tensors.keys()}
        slots |= {name: tensor for name, tensor in state.items() if name.startswith(ALWAYS_TRAINED)}
        updates: list[tuple[Tensor, Tensor, Tensor]] = []
        for name in (name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN)):
            weight, rank = state.get(f"{name}.weight"), len(tensors[f"{name}{DOWN}"])
            if weight is not None:
                slots[f"{name}{DOWN}"] = down = weight.new_zeros(rank, weight.shape[1])
                slots[f"{name}{UP}"] = up = weight.new_zeros(weight.shape[0], rank)
                updates.append((weight, up, down))
        copy_tensors(slots, tensors, failure, REMEDY)
        for weight, up, down in updates:
            weight += up @ down


def save(image: Mapping[str, Tensor], text: TextHead, facts: dict[str, str], file: Path = FILE) -> None:
    """Save trained parts in float16, with `facts` about their training in the file's header.

    Args:
        image: As `ImageTower.apply_trained` takes them.
        text: The text head.
        facts: About the training.
        file: Where.
    """
    tensors = {f"image.{name}": tensor for name, tensor in image.items()}
    tensors |= {f"text.{name}": tensor for name, tensor in text.state_dict().items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    halves = {name: tensor.detach().half().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry: the order of several would not be deterministic.
    file.write_bytes(to_bytes(halves, {"facts": json.dumps(facts)}))


def load_image_tower(file: Path = FILE) -> tuple[ImageTower, str]:
    """The image tower on the CPU in float32, and the towers' revision: version and digest of all weight files.

    Raises:
        Unavailable: The trained parts are missing or damaged, or a wheel's file has another digest.
    """
    tensors, revision = read_trained(file)
    tower = ImageTower()
    tower.apply_trained(tensors, f"{file} is not of this foir")
    return tower, revision


def read_trained(file: Path = FILE) -> tuple[dict[str, Tensor], str]:
    """The image tower's trained parts in the file, by name, and the revision.

    Raises:
        Unavailable: They are missing or damaged.
    """
    return _read(file, "image.")


def load_text_head(file: Path = FILE) -> TextHead:
    """The trained part of the text tower, on the CPU in float32.

    Raises:
        Unavailable: It is missing or damaged.
    """
    tensors, _ = _read(file, "text.")
    head = TextHead(DIM)
    copy_tensors(head.state_dict(), tensors, f"{file} is not of this foir", REMEDY)
    return head.eval().requires_grad_(False)


@cache
def training_facts(file: Path = FILE) -> dict[str, str]:
    """How the parts were trained: digest of the data lists, seed, command, settings.

    Raises:
        Unavailable: The file does not say.
    """
    try:
        with safe_open(file, "pt") as opened:
            return dict(json.loads(opened.metadata()["facts"]))
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        raise Unavailable(f"The trained part {file} of mini does not say how it was trained: {REMEDY}.") from error


def _read(file: Path, prefix: str) -> tuple[dict[str, Tensor], str]:
    """The tensors under a prefix, without it, and the revision."""
    try:
        digests = backbone.SHA256.encode() + text_encoder.SHA256.encode()
        revision = f"{VERSION}-{hashlib.sha256(digests + file.read_bytes()).hexdigest()[:16]}"
        with safe_open(file, "pt") as opened:
            names = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118 - it is no dict
            return {name.removeprefix(prefix): opened.get_tensor(name) for name in names}, revision
    except (OSError, SafetensorError) as error:
        raise Unavailable(f"The trained part {file} of mini is missing or damaged: restore it.") from error

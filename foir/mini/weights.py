"""The trained parts of `mini` on top of the frozen backbone and the frozen text model, and their file.

Image tower: backbone blocks 1-8 unchanged, blocks 9 and 10 with low-rank updates, blocks 11 and 12 trained (the last
with twelve heads of 32, so that head selection has a choice), final LayerNorm, one linear map. Text tower:
`foir.mini.text_encoder`. Both end in one space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
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
from foir.mini import backbone, text_encoder
from foir.mini.text_encoder import TextHead
from foir.pretrained import copy_tensors

FILE = Path(__file__).parents[1] / "assets" / "mini" / "towers.safetensors"
FROZEN, ADAPTED, RANK = 8, 2, 16  # unchanged blocks, blocks after them with low-rank updates, rank of the updates
LORA_SUFFIXES = (".down.weight", ".up.weight")
REMEDY = "restore it, or run python -m foir.mini.train"
HEADS, DIM = 12, 384  # heads of the last block, width of the joint space


class LoraLinear(nn.Module):
    """A frozen linear map with a learned low-rank update (LoRA, arXiv 2106.09685)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Linear(linear.in_features, RANK, bias=False)
        self.up = nn.Linear(RANK, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both maps."""
        return self.linear(x) + self.up(self.down(x))

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The linear map with the update added to its weight."""
        self.linear.weight += self.up.weight @ self.down.weight
        return self.linear


class ImageTower(nn.Module):
    """The backbone with low-rank updates, a last block with twelve heads and a map to the joint space."""

    def __init__(self) -> None:
        super().__init__()
        self.model: Any = backbone.load(backbone.BLOCKS)
        attention = self.model.encoder.layer[-1].attention
        attention.num_attention_heads, attention.head_dim = HEADS, backbone.DIM // HEADS
        attention.scaling = attention.head_dim**-0.5
        self.project = nn.Linear(backbone.DIM, DIM)
        for module, name in self._adapted_linears():
            setattr(module, name, LoraLinear(getattr(module, name)))

    def merge_lora(self) -> None:
        """Add the updates to the weights, so that the tower costs as much as the backbone."""
        for module, name in self._adapted_linears():
            setattr(module, name, getattr(module, name).merged())

    def _adapted_linears(self) -> Iterator[tuple[nn.Module, str]]:
        """Modules of the adapted blocks and the names of their linear maps."""
        layer: Any
        for layer in self.model.encoder.layer[FROZEN : FROZEN + ADAPTED]:
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                yield layer.attention, name
            for name in ("fc1", "fc2"):
                yield layer.mlp, name

    def as_encoder(self, revision: str) -> Encoder:
        """The tower as an encoder that shares its modules."""
        return replace(dinov2.wrap(self.model, "mini", revision), project=self.project, module=self)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name; after `merge_lora` the updates are not among them."""
        frozen = ("model.embeddings.", *(f"model.encoder.layer.{i}." for i in range(FROZEN + ADAPTED)))
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if not name.startswith(frozen) or name.endswith(LORA_SUFFIXES)
        }


def save(image: ImageTower, text: TextHead, facts: dict[str, str], file: Path = FILE) -> None:
    """Save the trained parts in float16, with `facts` about their training in the file's header."""
    tensors: dict[str, Tensor] = {f"image.{name}": p for name, p in image.trained_parameters().items()}
    tensors |= {f"text.{name}": p for name, p in text.state_dict().items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    halves = {name: tensor.detach().half().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry: the order of several would not be deterministic.
    file.write_bytes(to_bytes(halves, {"facts": json.dumps(facts)}))


def load_image_tower(file: Path = FILE) -> tuple[ImageTower, str]:
    """The image tower on the CPU in float32, and the towers' revision: a digest of all weight files.

    Raises:
        Unavailable: The trained parts are missing or damaged, or a wheel's file has another digest.
    """
    tensors, revision = _read(file, "image.")
    tower = ImageTower()
    copy_tensors(tower.trained_parameters(), tensors, f"{file} is not of this foir", REMEDY)
    tower.merge_lora()
    return tower, revision


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
    """How the parts were trained: digest of the data lists, seed, command, settings."""
    with safe_open(file, "pt") as opened:
        return dict(json.loads(opened.metadata()["facts"]))


def _read(file: Path, prefix: str) -> tuple[dict[str, Tensor], str]:
    """The tensors under a prefix, without it, and the revision."""
    try:
        digests = backbone.SHA256.encode() + text_encoder.SHA256.encode()
        revision = hashlib.sha256(digests + file.read_bytes()).hexdigest()[:16]
        with safe_open(file, "pt") as opened:
            names = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118 - it is no dict
            return {name.removeprefix(prefix): opened.get_tensor(name) for name in names}, revision
    except (OSError, SafetensorError) as error:
        raise Unavailable(f"The trained part {file} of mini is missing or damaged: restore it.") from error

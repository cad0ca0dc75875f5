"""The trained parts of `mini`: what is added to the frozen trunk and the frozen text model, and the file they live in.

Image tower: trunk blocks 1-8 as they are, blocks 9 and 10 with updates of low rank, blocks 11 and 12 trained (the last
with twelve heads of 32, for a choice among them to mean something), final LayerNorm, one linear map. Text tower:
`foir.mini.text_encoder`. Both end in one space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from foir.encoders import dinov2
from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.mini import backbone
from foir.mini.text_encoder import SHA256, TextHead

FILE = Path(__file__).parents[1] / "assets" / "mini" / "towers.safetensors"
FROZEN, UPDATED, RANK = 8, 2, 16  # trunk blocks left as they are, those after them with updates, rank of the updates
UPDATES = (".down.weight", ".up.weight")  # how their parameters' names end
HEADS, DIM = 12, 384  # heads of the last block, width of the joint space


class Updated(nn.Module):
    """A linear map that stays as it is and a learned update of it of low rank (LoRA, arXiv 2106.09685)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Linear(linear.in_features, RANK, bias=False)
        self.up = nn.Linear(RANK, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Both together."""
        return self.linear(x) + self.up(self.down(x))

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The linear map with the update in it."""
        self.linear.weight += self.up.weight @ self.down.weight
        return self.linear


class ImageTower(nn.Module):
    """The trunk with updates, a re-cut last block and a map to the joint space."""

    def __init__(self) -> None:
        super().__init__()
        self.model = backbone.load(backbone.BLOCKS)
        attention: Any = self.model.encoder.layer[-1].attention
        attention.num_attention_heads, attention.head_dim = HEADS, backbone.DIM // HEADS
        attention.scaling = attention.head_dim**-0.5
        self.project = nn.Linear(backbone.DIM, DIM)
        for part, name in self._updated():
            setattr(part, name, Updated(getattr(part, name)))

    def fold(self) -> None:
        """Put the updates into the maps that they update: from here on the tower costs what the trunk costs."""
        for part, name in self._updated():
            setattr(part, name, getattr(part, name).folded())

    def _updated(self) -> Iterator[tuple[nn.Module, str]]:
        """Modules of the updated blocks and the names of the linear maps in them."""
        layer: Any
        for layer in self.model.encoder.layer[FROZEN : FROZEN + UPDATED]:
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                yield layer.attention, name
            for name in ("fc1", "fc2"):
                yield layer.mlp, name

    def opened(self, revision: str) -> Encoder:
        """It as an encoder, whose parts are this tower's own modules."""
        encoder = dinov2.wrap(self.model, "mini", revision)
        return replace(encoder, project=self.project, module=self)

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name; there are more before `fold` than after."""
        frozen = ("model.embeddings.", *(f"model.encoder.layer.{i}." for i in range(FROZEN + UPDATED)))
        return {name: p for name, p in self.named_parameters() if not name.startswith(frozen) or name.endswith(UPDATES)}


def write(image: ImageTower, text: TextHead, facts: dict[str, str], file: Path = FILE) -> None:
    """Write the trained parts in float16, with how they came about in the file's header."""
    tensors: dict[str, Tensor] = {f"image.{name}": p for name, p in image.trained().items()}
    tensors |= {f"text.{name}": p for name, p in text.state_dict().items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: tensor.detach().half().cpu().contiguous() for name, tensor in tensors.items()}
    file.write_bytes(save(kept, {"facts": json.dumps(facts)}))  # one entry: several would come in any order


def image_tower(file: Path = FILE) -> tuple[ImageTower, str]:
    """The image tower on the CPU in float32, and the towers' revision: a digest of every file that they come from.

    Raises:
        Unavailable: The trained parts are missing or damaged, or an installed package's file is another one.
    """
    tensors, revision = _read(file, "image.")
    tower = ImageTower()
    parameters = tower.trained()
    with _fitting(file), torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    tower.fold()
    return tower, revision


def text_head(file: Path = FILE) -> TextHead:
    """The trained part of the text tower, on the CPU in float32.

    Raises:
        Unavailable: It is missing or damaged.
    """
    tensors, _ = _read(file, "text.")
    head = TextHead(DIM)
    with _fitting(file):
        head.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return head.eval().requires_grad_(False)


@cache
def facts(file: Path = FILE) -> dict[str, str]:
    """How the trained parts came about: data lists' digest, seed, command, what was measured while training."""
    with safe_open(file, "pt") as opened:
        return dict(json.loads(opened.metadata()["facts"]))


def _read(file: Path, prefix: str) -> tuple[dict[str, Tensor], str]:
    """The tensors under a prefix, without it, and the revision."""
    try:
        revision = hashlib.sha256(backbone.SHA256.encode() + SHA256.encode() + file.read_bytes()).hexdigest()[:16]
        with safe_open(file, "pt") as opened:
            names = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118 - it is no dict
            return {name.removeprefix(prefix): opened.get_tensor(name) for name in names}, revision
    except (OSError, SafetensorError) as error:
        raise Unavailable(f"The trained part {file} of mini is missing or damaged: restore it.") from error


@contextmanager
def _fitting(file: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, RuntimeError) as error:
        raise Unavailable(f"{file} is not of this foir: restore it, or run python -m foir.mini.train.") from error

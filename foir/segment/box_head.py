"""The box head of `mini`: from each patch the box of the thing it lies on, and how well that box fits.

One small convolutional network on frozen patch features, free of classes. As in FCOS (arXiv 1904.01355) a patch
predicts the distances to its thing's four sides; as in OLN (arXiv 2108.06753) boxes are ranked by how well they fit,
so that things of kinds nobody labelled are found too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder
from foir.errors import Unavailable
from foir.pretrained import copy_tensors

WIDTH, LAYERS, GROUPS = 128, 3, 8
FIRST_DISTANCE = 3.0  # in patches, from a patch to the sides of its box, before any training


class BoxHead(nn.Module):
    """Convolutions over the patches of one scale; the same for all scales."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(features, WIDTH, 1)
        self.layers = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(LAYERS))
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, WIDTH) for _ in range(LAYERS))
        self.sides, self.fit = nn.Conv2d(WIDTH, 4, 1), nn.Conv2d(WIDTH, 1, 1)
        nn.init.zeros_(self.sides.weight)
        nn.init.constant_(self.sides.get_parameter("bias"), math.log(FIRST_DISTANCE))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and fits that patches predict.

        Args:
            features: Of the patches, [B, features, rows, cols].

        Returns:
            Boxes (x0, y0, x1, y1) in patches, [B, rows, cols, 4], and logits of their IoU with a thing's box,
            [B, rows, cols].
        """
        x = self.reduce(features)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + F.gelu(norm(layer(x)))
        rows, cols = features.shape[-2:]
        y, x0 = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(cols) + 0.5, indexing="ij")
        centres = torch.stack([x0, y, x0, y], -1).to(x.device)
        distances = self.sides(x).clamp(max=5.0).exp().permute(0, 2, 3, 1)
        signs = distances.new_tensor([-1.0, -1.0, 1.0, 1.0])
        return centres + signs * distances, self.fit(x)[:, 0]


def save(head: BoxHead, encoder: Encoder, facts: Mapping[str, str], file: Path) -> None:
    """Save a head in float16 with the encoder it belongs to, and with `facts` about its training, in the header."""
    state = {name: tensor.detach().half().cpu().contiguous() for name, tensor in head.state_dict().items()}
    # One entry: the order of several would not be deterministic.
    header = {"encoder": [encoder.name, encoder.revision], "facts": dict(facts)}
    file.write_bytes(to_bytes(state, {"boxes": json.dumps(header)}))


def load(file: Path, encoder: Encoder) -> BoxHead:
    """The head that was trained for an encoder, on the CPU in float32.

    Raises:
        Unavailable: Its file is missing or damaged, of another foir, or of another encoder.
    """
    remedy = "restore it from the repository"
    try:
        with safe_open(file, "pt") as opened:
            name, revision = json.loads(opened.metadata()["boxes"])["encoder"]
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - it is no dict
        features = int(tensors["reduce.weight"].shape[1])
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        raise Unavailable(f"The region proposals cannot be read at {file}: {remedy}.") from error
    if (name, revision) != (encoder.name, encoder.revision):
        own = "these" if name == encoder.name else f"those of {encoder.name}"
        raise Unavailable(f"The region proposals were trained for other weights of {name}, not for {own}.")
    head = BoxHead(features)
    copy_tensors(head.state_dict(), tensors, f"{file} is not of this foir", remedy)
    return head.eval().requires_grad_(False)

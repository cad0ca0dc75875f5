"""Which weights of the image tower are trained: low-rank updates of the early blocks, all of the later ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, nn

from foir.mini import weights
from foir.pretrained import copy_tensors

WHOLE_FROM, RANK = 6, 32  # first block that is trained as a whole, rank of the updates of those before it
LINEARS = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2")
FROZEN = ("model.embeddings.", *(f"model.encoder.layer.{i}." for i in range(WHOLE_FROM)))


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


def trainable_tower(start: Path | None) -> weights.ImageTower:
    """A tower with the updates beside its weights, so that they stay of low rank over several trainings.

    Args:
        start: The trained parts to go on from; None starts from the backbone. Updates of blocks that are now trained
            as a whole are merged into them.

    Raises:
        Unavailable: They are no trained parts, or their early blocks are not of this form.
    """
    tower = weights.ImageTower()
    found = weights.read_trained(start)[0] if start else {}
    early = {name for name in found if name.startswith(FROZEN)}
    if found:
        tower.apply_trained({name: found[name] for name in found.keys() - early}, f"{start} is not of this foir")
    for module, name in _linears(tower):
        setattr(module, name, LoraLinear(getattr(module, name)))
    if early:
        updates = {name: p for name, p in trained_parameters(tower).items() if name.startswith(FROZEN)}
        remedy = "start from other weights, or from the backbone"
        copy_tensors(updates, {name: found[name] for name in early}, f"{start} has other early blocks", remedy)
    return tower


def trained_parameters(tower: weights.ImageTower) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by the names of `foir.mini.weights.ImageTower.apply_trained`."""
    return {
        name: parameter
        for name, parameter in tower.named_parameters()
        if not name.startswith(FROZEN) or name.endswith((weights.DOWN, weights.UP))
    }


def _linears(tower: weights.ImageTower) -> Iterator[tuple[nn.Module, str]]:
    """Modules of the early blocks, and the names of their linear maps."""
    for layer in tower.model.encoder.layer[:WHOLE_FROM]:
        for path in LINEARS:
            module, name = path.split(".")
            yield getattr(layer, module), name

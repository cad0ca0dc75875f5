"""Views of a library's model: some submodules replaced, everything else shared, the model itself untouched.

So a perturbation needs no hooks and no lock: two people can look through two views of one model at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from foir.perturbation.query_perturbation import Perturbation

QueryTransform = Callable[[Tensor], Tensor]  # queries [B, h, n, D] to queries of the same shape


def replace_modules(model: nn.Module, parts: Mapping[str, nn.Module]) -> Any:
    """The model with other submodules in the places that `parts` names ("qformer.encoder.layer.0")."""
    seen = copy.copy(model)
    seen._modules = dict(model._modules)
    inner: dict[str, dict[str, nn.Module]] = {}
    for path, part in parts.items():
        name, _, rest = path.partition(".")
        if rest:
            inner.setdefault(name, {})[rest] = part
        else:
            seen._modules[name] = part
    for name, some in inner.items():
        child = seen._modules[name]
        if child is not None:
            seen._modules[name] = replace_modules(child, some)
    return seen


class PerturbedQueries(nn.Module):
    """A query projection whose output is pulled at objects before the attention sees it."""

    def __init__(self, projection: nn.Module, heads: int, pull: QueryTransform) -> None:
        super().__init__()
        self.projection, self.heads, self.pull = projection, heads, pull

    def forward(self, hidden: Tensor) -> Tensor:
        """Project [B, n, d] to [B, n, h * D] and pull."""
        queries = split(self.projection(hidden), self.heads)
        return self.pull(queries).transpose(1, 2).flatten(2)


class PrecomputedTokens(nn.Module):
    """In the place of an image tower: hands on what was computed before, in the form that its caller expects."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.form = form

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        """What the tower would have given; `pixel_values` are the tokens themselves."""
        return self.form(pixel_values)


def split(x: Tensor, heads: int) -> Tensor:
    """[B, n, h * D] to [B, h, n, D]."""
    return x.reshape(*x.shape[:-1], heads, -1).transpose(1, 2)


def site_transform(perturbation: Perturbation, site: int) -> QueryTransform:
    """The perturbation of one cross-attention."""
    return partial(perturbation, site)

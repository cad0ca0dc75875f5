"""Views of a library's model: some submodules replaced, all others shared, the model itself unchanged.

A perturbation therefore needs no hooks and no lock: two threads can use two views of one model at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from foir.perturbation.query_perturbation import Perturbation

QueryTransform = Callable[[Tensor], Tensor]  # queries [B, h, n, D] to queries of the same shape


def replace_modules(model: nn.Module, modules: Mapping[str, nn.Module]) -> Any:
    """A view of the model with other submodules at the paths that `modules` names ("qformer.encoder.layer.0")."""
    view = copy.copy(model)
    view._modules = dict(model._modules)
    nested: dict[str, dict[str, nn.Module]] = {}
    for path, module in modules.items():
        name, _, rest = path.partition(".")
        if rest:
            nested.setdefault(name, {})[rest] = module
        else:
            view._modules[name] = module
    for name, inner in nested.items():
        child = view._modules[name]
        if child is not None:
            view._modules[name] = replace_modules(child, inner)
    return view


def replace_forward(module: nn.Module, forward: Callable[..., Tensor]) -> Any:
    """A view of the module with the same parameters and another forward function."""
    view = replace_modules(module, {})
    view.forward = forward
    return view


class PerturbedQueries(nn.Module):
    """A query projection whose output is transformed before the attention uses it."""

    def __init__(self, projection: nn.Module, heads: int, transform: QueryTransform) -> None:
        super().__init__()
        self.projection, self.heads, self.transform = projection, heads, transform

    def forward(self, hidden: Tensor) -> Tensor:
        """Project [B, n, d] to [B, n, h * D] and transform."""
        queries = split_heads(self.projection(hidden), self.heads)
        return self.transform(queries).transpose(1, 2).flatten(2)


class PrecomputedTokens(nn.Module):
    """Stands in for an image encoder: returns precomputed tokens in the form that the caller expects."""

    def __init__(self, output: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.output = output

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        """The encoder's output; `pixel_values` are the tokens."""
        return self.output(pixel_values)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, n, h * D] to [B, h, n, D]."""
    return x.reshape(*x.shape[:-1], heads, -1).transpose(1, 2)


def site_transform(perturbation: Perturbation, site: int) -> QueryTransform:
    """The perturbation of one cross-attention."""
    return partial(perturbation, site)

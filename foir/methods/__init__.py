"""Methods by name: each turns a prompt into an Intervention. Names chain with "|" ("foveal|phs", "crop|phs").

A new method is a file in this package with one function under `@method`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, get_type_hints

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from foir.arguments import checked
from foir.encoders.intervention import Intervention
from foir.errors import BadPrompt
from foir.patches import PatchMask
from foir.prompts import Prompt

MAX_CHAIN = 4  # methods
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        name: Registry name.
        title: Name in a menu.
        summary: One sentence for a person.
        build: `(prompt, mask, **options) -> Intervention`.
        uses_prompt: Whether the result depends on the prompt.
    """

    name: str
    title: str
    summary: str
    build: Callable[..., Intervention]
    uses_prompt: bool

    @cached_property
    def options(self) -> dict[str, Any]:
        """Option names and their defaults."""
        parameters = inspect.signature(self.build).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @cached_property
    def _adapters(self) -> dict[str, TypeAdapter]:
        hints = get_type_hints(self.build)
        return {name: TypeAdapter(hints[name], config=_STRICT) for name in self.options}

    def check_option(self, name: str, value: Any) -> None:
        """Refuse a value of another type than the option's, and numbers that are not finite.

        Raises:
            BadPrompt: It is one.
        """
        try:
            self._adapters[name].validate_python(value.item() if isinstance(value, np.generic) else value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Input should be ")
            raise BadPrompt(f"The option {name} of {self.name} must be {reason}, not {value!r}.") from error


_registry: dict[str, Method] = {}
_Build = Callable[..., Intervention]


def method(name: str, *, title: str, summary: str, uses_prompt: bool = True) -> Callable[[_Build], _Build]:
    """Register a function `(prompt, mask, *, option=default) -> Intervention`."""

    def register(build: _Build) -> _Build:
        _registry[name] = Method(name, title, summary, build, uses_prompt)
        return build

    return register


@cache
def methods() -> dict[str, Method]:
    """All registered methods, by name."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    return dict(_registry)


@checked
def chain(names: str) -> tuple[Method, ...]:
    """The methods of a chain such as "foveal|phs".

    Raises:
        BadPrompt: A name is not registered, or there are too many.
    """
    known = methods()
    parts = [name.strip() for name in names.split("|")]
    if len(parts) > MAX_CHAIN:
        raise BadPrompt(f"Chain at most {MAX_CHAIN} methods, not {len(parts)}.")
    for name in parts:
        if name not in known:
            raise BadPrompt(f"There is no method {name!r}; foir knows {', '.join(known)}.")
    return tuple(known[name] for name in parts)


def title(names: str) -> str:
    """The name of a method or a chain in a menu."""
    first, *rest = (step.title for step in chain(names))
    return ", then ".join((first, *(title[:1].lower() + title[1:] for title in rest)))


@checked
def resolve(names: str, options: Mapping[str, Any] | None = None) -> list[tuple[Method, dict[str, Any]]]:
    """The methods of a chain, each with its share of the options.

    Args:
        names: "phs", or a chain "crop|phs".
        options: Each option goes to the methods of the chain that know it.

    Raises:
        BadPrompt: Unknown method or option, or a value of the wrong type.
    """
    options = dict(options or {})
    steps = chain(names)
    if unknown := set(options).difference(*(step.options for step in steps)):
        raise BadPrompt(f"The method {names} has no option {', '.join(sorted(map(str, unknown)))}.")
    resolved = [(step, {name: options[name] for name in step.options if name in options}) for step in steps]
    for step, values in resolved:
        for name, value in values.items():
            step.check_option(name, value)
    return resolved


def intervene(names: str, prompt: Prompt, mask: PatchMask, options: Mapping[str, Any] | None = None) -> Intervention:
    """Build the Intervention of a method or chain.

    Args:
        names: "phs", or a chain "crop|phs". After a step that reframes, the region of the rest is the whole image.
        prompt: A prompt that went through `Prompt.fit`.
        mask: The same prompt in patches.
        options: See `resolve`.

    Raises:
        BadPrompt: See `resolve`; or an option's value is out of range.
    """
    combined = Intervention()
    for step, values in resolve(names, options):
        intervention = step.build(prompt, mask, **values)
        if intervention.reframes:  # the rest of the chain sees the crop as its whole image
            x0, y0, x1, y1 = mask.box
            mask = PatchMask.everything((x1 - x0, y1 - y0), mask.patches.shape)
            prompt = Prompt.box(0, 0, *mask.size)
        combined = combined | intervention
    return combined


__all__ = ["Method", "chain", "intervene", "method", "methods", "resolve", "title"]

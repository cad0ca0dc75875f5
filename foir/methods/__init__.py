"""Methods by name: each turns a prompt into an Intervention. Names chain with "|" ("foveal|phs", "crop|phs")."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from foir.encoders.intervention import Intervention
from foir.errors import BadPrompt
from foir.patches import PatchMask
from foir.prompts import Prompt


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        name: Registry name.
        title: What a menu calls it.
        summary: One sentence for a person.
        build: `(prompt, mask, **options) -> Intervention`.
        pointed: Whether it uses the prompt at all.
    """

    name: str
    title: str
    summary: str
    build: Callable[..., Intervention]
    pointed: bool

    @property
    def options(self) -> dict[str, Any]:
        """Option names and their defaults."""
        parameters = inspect.signature(self.build).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


LONGEST = 4  # methods of a chain
_register: dict[str, Method] = {}
_Build = Callable[..., Intervention]


def method(name: str, *, title: str, summary: str, pointed: bool = True) -> Callable[[_Build], _Build]:
    """Register a function `(prompt, mask, *, option=default) -> Intervention`."""

    def add(build: _Build) -> _Build:
        _register[name] = Method(name, title, summary, build, pointed)
        return build

    return add


@cache
def methods() -> dict[str, Method]:
    """All registered methods, by name."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    return dict(_register)


def chain(names: str) -> tuple[Method, ...]:
    """The methods of a chain such as "foveal|phs".

    Raises:
        BadPrompt: A name is not registered, or there are too many.
    """
    known = methods()
    parts = [name.strip() for name in names.split("|")]
    if len(parts) > LONGEST:
        raise BadPrompt(f"Chain at most {LONGEST} methods, not {len(parts)}.")
    for name in parts:
        if name not in known:
            raise BadPrompt(f"There is no method {name!r}; foir knows {', '.join(known)}.")
    return tuple(known[name] for name in parts)


def title(names: str) -> str:
    """What a menu calls a method or a chain."""
    first, *rest = (step.title for step in chain(names))
    return ", then ".join((first, *(title[:1].lower() + title[1:] for title in rest)))


def intervene(names: str, prompt: Prompt, mask: PatchMask, options: Mapping[str, Any] | None = None) -> Intervention:
    """Build the Intervention of a method or chain.

    Args:
        names: "phs", or a chain "crop|phs". After a step that reframes, the rest sees the whole picture as its region.
        prompt: A prompt that went through `Prompt.fit`.
        mask: The same prompt in patches.
        options: Each option goes to the methods of the chain that know it.

    Raises:
        BadPrompt: Unknown method or option, or an option's value is out of range.
    """
    options = dict(options or {})
    steps = chain(names)
    unknown = set(options).difference(*(step.options for step in steps))
    if unknown:
        raise BadPrompt(f"The method {names} has no option {', '.join(sorted(unknown))}.")
    whole = Intervention()
    for step in steps:
        made = step.build(prompt, mask, **{key: options[key] for key in step.options if key in options})
        if made.reframes:  # what follows sees the cut-out as its whole picture
            x0, y0, x1, y1 = mask.box
            mask = PatchMask.everything((x1 - x0, y1 - y0), mask.patches.shape)
            prompt = Prompt.box(0, 0, *mask.size)
        whole = whole | made
    return whole


__all__ = ["Method", "chain", "intervene", "method", "methods", "title"]

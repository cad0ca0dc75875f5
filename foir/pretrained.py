"""Loading weights into a model. Tensors that are missing, not the model's or of another shape are an error.

The libraries would fill them with random numbers, skip them, or broadcast them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foir.errors import Unavailable

if TYPE_CHECKING:
    from torch import Tensor

COUNTERS = "*position_ids"  # 0, 1, 2, ...; older versions of the libraries saved them
NAMED = 3  # tensors in a message


def load_pretrained(
    model_class: Any, folder: Path, *, optional: Sequence[str] = (), ignored: Sequence[str] = (), **options: Any
) -> Any:
    """A transformers model with the weights of a folder.

    Args:
        model_class: Its class.
        folder: See `foir.hub.download_weights`.
        optional: Patterns of tensors that the weights may lack: foir does not use them.
        ignored: Patterns of tensors that belong to other parts of the checkpoint.
        options: Of `from_pretrained`.

    Raises:
        Unavailable: The weights cannot be read, or are not those of such a model.
    """
    from safetensors import SafetensorError

    failure = f"The weights in {folder} do not fit {model_class.__name__}"
    remedy = "load others, or delete the folder to fetch them again"
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it would print a table of what is checked below
    try:
        model, found = model_class.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise Unavailable(f"{failure} ({type(error).__name__}): {remedy}.") from error
    finally:
        logger.setLevel(level)
    missing = _unmatched(found["missing_keys"], optional)
    unexpected = _unmatched(found["unexpected_keys"], (COUNTERS, *ignored))
    _check(failure, remedy, missing, unexpected, {name for name, *_ in found["mismatched_keys"]})
    return model


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of the weights in a folder, by name; their bytes are read when they are used.

    Args:
        folder: See `foir.hub.download_weights`.

    Raises:
        Unavailable: A file cannot be read.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    shards = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    for shard in shards:
        try:
            if shard.suffix == ".safetensors":
                tensors |= load_file(shard)
            else:
                tensors |= torch.load(shard, map_location="cpu", weights_only=True, mmap=True)
        except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError) as error:
            raise Unavailable(f"The weights {shard} cannot be read: delete the file to fetch it again.") from error
    return tensors


def copy_tensors(targets: Mapping[str, Tensor], state: Mapping[str, Tensor], failure: str, remedy: str) -> None:
    """Copy the tensors of a file into those of a model, which have the same names and shapes.

    Args:
        targets: Tensors of the model by name, such as its `state_dict`.
        state: Tensors of the file.
        failure: What does not fit what, for the error.
        remedy: What to do then.

    Raises:
        Unavailable: Names or shapes differ.
    """
    import torch

    misshaped = {name for name in targets.keys() & state.keys() if targets[name].shape != state[name].shape}
    _check(failure, remedy, targets.keys() - state.keys(), state.keys() - targets.keys(), misshaped)
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(state[name])


def _unmatched(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    return {name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns)}


def _check(
    failure: str, remedy: str, missing: Collection[str], unexpected: Collection[str], misshaped: Collection[str]
) -> None:
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped}
    found = "; ".join(f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names)
    if found:
        raise Unavailable(f"{failure} ({found}): {remedy}.")


def _listed(names: Collection[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(sorted(names)[:NAMED]) + more

"""Image encoders by name. Importing this package imports no torch; only `load` does."""

from foir.encoders.registry import (
    EncoderSpec,
    check_dtype,
    encoder_spec,
    encoder_specs,
    has_zerogpu,
    load,
    register_encoder,
    resolve_device,
)

__all__ = [
    "EncoderSpec",
    "check_dtype",
    "encoder_spec",
    "encoder_specs",
    "has_zerogpu",
    "load",
    "register_encoder",
    "resolve_device",
]

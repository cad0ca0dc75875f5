"""Image encoders by name. Importing this package imports no torch; only `load` does."""

from foir.encoders.devices import check_dtype, has_zerogpu, resolve_device
from foir.encoders.registry import EncoderSpec, encoder_spec, encoder_specs, load, register_encoder, weight_terms

__all__ = [
    "EncoderSpec",
    "check_dtype",
    "encoder_spec",
    "encoder_specs",
    "has_zerogpu",
    "load",
    "register_encoder",
    "resolve_device",
    "weight_terms",
]

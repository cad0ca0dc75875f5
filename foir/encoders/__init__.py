"""Image encoders by name. Importing this package imports no torch; only `load` does."""

from foir.encoders.devices import DTYPES, has_zerogpu, resolve_device, resolve_dtype
from foir.encoders.registry import EncoderSpec, encoder_spec, encoder_specs, load, register_encoder, weight_terms

__all__ = [
    "DTYPES",
    "EncoderSpec",
    "encoder_spec",
    "encoder_specs",
    "has_zerogpu",
    "load",
    "register_encoder",
    "resolve_device",
    "resolve_dtype",
    "weight_terms",
]

"""Image-text models: text queries, captions, and query perturbation on top of image encoders."""

from foir.image_text.base import ImageTextModel, Match, TextFeatures
from foir.image_text.registry import encoder_models, load, models, register_model

__all__ = ["ImageTextModel", "Match", "TextFeatures", "encoder_models", "load", "models", "register_model"]

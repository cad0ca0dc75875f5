"""Scenes composed from sprites: for the sample gallery, for training `mini`, and for evaluation.

`compose("gallery", 7)` always gives the same scene, with exact boxes, masks, categories, instances and a caption.
"""

from foir.playroom.scenes import SPLITS, Scene, SceneObject, compose
from foir.playroom.sprites import Sprite, sprites

__all__ = ["SPLITS", "Scene", "Sprite", "SceneObject", "compose", "sprites"]

"""Training losses of the towers of `mini`, each on one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.encoders.base import Encoder
from foir.encoders.block import LastBlock
from foir.mini.weights import FROZEN

SOFT_SHARE, SOFT_TEMPERATURE = 0.2, 0.05  # of soft targets
CATEGORY_WEIGHT = 0.3  # target of a scene with an object of the same category; 1 with the same object
INITIAL_LOG_SCALE, MAX_LOG_SCALE = math.log(1 / 0.05), math.log(100)  # of the learned inverse temperatures


class Temperatures(nn.Module):
    """Learned inverse temperatures of whole images and of prompted objects, as logarithms."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))
        self.object = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    def clamp(self) -> None:
        """Limit both to 100, as CLIP does."""
        for parameter in self.parameters():
            parameter.data.clamp_(max=MAX_LOG_SCALE)


@dataclass(frozen=True, eq=False)
class BlockFeatures:
    """A batch behind the trained blocks: the last block, CLS attention [B, h, T], head outputs [B, h, d_k]."""

    block: LastBlock
    attention: Tensor
    z: Tensor


@dataclass(frozen=True, eq=False)
class BatchObjects:
    """Prompted objects of a batch: image row of each [m], patch weights [m, n] in 0..1, and integer labels [m]."""

    rows: Tensor
    patches: Tensor
    labels: Tensor

    @classmethod
    def collate(cls, objects: list[tuple[np.ndarray, np.ndarray]], device: str) -> BatchObjects:
        """Collate the patch masks and labels of each image."""
        rows = np.repeat(np.arange(len(objects)), [len(labels) for _, labels in objects])
        patches = np.concatenate([masks for masks, _ in objects]).astype(np.float32)
        labels = np.concatenate([labels for _, labels in objects])
        return cls(*(torch.from_numpy(array).to(device) for array in (rows, patches, labels)))


def run_trained_blocks(encoder: Encoder, tokens: Tensor) -> BlockFeatures:
    """Run the trained blocks on backbone tokens [B, T, d]; the last one for its CLS row only."""
    for layer in encoder.layers[FROZEN:-1]:
        tokens = layer(tokens)
    block = encoder.layers[-1].open(tokens)
    attention = block.logits.softmax(-1)
    return BlockFeatures(block, attention, (attention.unsqueeze(-2) @ block.values).squeeze(-2))


def global_vectors(encoder: Encoder, features: BlockFeatures) -> Tensor:
    """Unit vectors [B, dim] with all heads on."""
    return _vectors(encoder, features.z, features.block.residual)


def prompted_vectors(encoder: Encoder, features: BlockFeatures, objects: BatchObjects, h_on: int) -> Tensor:
    """Unit vectors [m, dim] under head selection exactly as in `foir.methods.phs` ("sum", "before+scale")."""
    patch_attention = features.attention[objects.rows][:, :, -objects.patches.shape[1] :]
    scores = (patch_attention * objects.patches[:, None]).sum(-1)
    selected = scores.topk(h_on, -1).indices
    gate = torch.zeros_like(scores).scatter_(-1, selected, scores.shape[-1] / h_on)
    return _vectors(encoder, features.z[objects.rows] * gate[..., None], features.block.residual[objects.rows])


def drop_patches(tokens: Tensor, share: float) -> Tensor:
    """Keep the CLS token and a random share of the patches of [B, T, d].

    This saves compute, and no two views of an image are the same (as in FLIP, arXiv 2212.00794).
    """
    return _keep_patches(tokens, torch.rand(len(tokens), tokens.shape[1] - 1, device=tokens.device), share)[0]


def drop_background_patches(tokens: Tensor, share: float, objects: BatchObjects) -> tuple[Tensor, BatchObjects]:
    """Like `drop_patches`, but patches of objects are kept before all others."""
    priority = torch.rand(len(tokens), tokens.shape[1] - 1, device=tokens.device)
    priority = priority + torch.zeros_like(priority).index_add_(0, objects.rows, objects.patches).clamp(max=1)
    tokens, kept = _keep_patches(tokens, priority, share)
    return tokens, BatchObjects(objects.rows, objects.patches.gather(1, kept[objects.rows]), objects.labels)


def _keep_patches(tokens: Tensor, priority: Tensor, share: float) -> tuple[Tensor, Tensor]:
    kept = priority.topk(round(priority.shape[1] * share), -1).indices.sort(-1).values
    patches = tokens[:, 1:].gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
    return torch.cat([tokens[:, :1], patches], 1), kept


def contrastive_loss(
    images: Tensor, texts: Tensor, owner: Tensor, log_scale: Tensor, text_features: Tensor | None = None
) -> Tensor:
    """Symmetric contrastive loss of images [B, dim] and texts [m, dim].

    Args:
        images: Unit vectors.
        texts: Unit vectors.
        owner: Image row of each text, [m].
        log_scale: Logarithm of the inverse temperature.
        text_features: Unit vectors [m, d] of the texts in a space of text similarity. With them a share `SOFT_SHARE` of
            each target goes to images with similar texts, since in a small set of photos many captions fit several.
    """
    logits = log_scale.exp() * images @ texts.T
    matches = (owner[None] == torch.arange(len(images), device=owner.device)[:, None]).float()
    to_text, to_image = matches / matches.sum(1, keepdim=True), matches.T
    if text_features is not None:
        similarity = to_text @ (text_features @ text_features.T)  # mean of an image's texts to all texts
        to_text = (1 - SOFT_SHARE) * to_text + SOFT_SHARE * (similarity / SOFT_TEMPERATURE).softmax(-1)
        to_image = (1 - SOFT_SHARE) * to_image + SOFT_SHARE * (similarity.T / SOFT_TEMPERATURE).softmax(-1)
    return (_soft_cross_entropy(logits, to_text) + _soft_cross_entropy(logits.T, to_image)) / 2


def collage_loss(vectors: Tensor, texts: Tensor, photos: Tensor, log_scale: Tensor) -> Tensor:
    """Symmetric contrastive loss of prompted photos [m, dim] and their captions [m, dim]; `photos` [m] are ids."""
    logits = log_scale.exp() * vectors @ texts.T
    same = (photos[:, None] == photos[None]).float()
    return (_soft_cross_entropy(logits, same) + _soft_cross_entropy(logits.T, same)) / 2


def scene_loss(
    encoder: Encoder,
    features: BlockFeatures,
    objects: BatchObjects,
    categories: Tensor,
    names: Tensor,
    captions: Tensor,
    temperatures: Temperatures,
    h_on: int,
) -> Tensor:
    """Loss of composed scenes.

    A prompted object must retrieve its name and other scenes with it or its category; names and captions must retrieve
    their scenes.

    Args:
        encoder: The image tower.
        features: Of the scenes.
        objects: The objects on them.
        categories: Category of every possible label of `objects`, [all].
        names: Unit vectors of the names of `objects.labels.unique()`.
        captions: Unit vectors of the scenes' captions.
        temperatures: Of both kinds of contrast.
        h_on: Number of selected heads.
    """
    vectors, scenes = prompted_vectors(encoder, features, objects, h_on), global_vectors(encoder, features)
    labels, label = torch.unique(objects.labels, return_inverse=True)
    scale = temperatures.object.exp()
    object_to_name = F.cross_entropy(scale * vectors @ names.T, label)
    contains = scenes.new_zeros(len(scenes), len(labels))
    contains[objects.rows, label] = 1
    own_scene = F.one_hot(objects.rows, len(scenes)).bool()
    relevance = torch.where(categories[labels][:, None] == categories[labels], CATEGORY_WEIGHT, 0.0).fill_diagonal_(1)
    target = (relevance[label][:, None] * contains[None]).amax(-1).masked_fill(own_scene, 0)
    has_target = target.sum(1) > 0
    object_to_scene = vectors.new_zeros(())
    if has_target.any():
        logits = (scale * vectors @ scenes.T).masked_fill(own_scene, -1e4)
        object_to_scene = _soft_cross_entropy(logits[has_target], target[has_target])
    name_to_scene = _soft_cross_entropy(scale * names @ scenes.T, contains.T)
    caption_loss = contrastive_loss(
        scenes, captions, torch.arange(len(scenes), device=label.device), temperatures.image
    )
    return object_to_name + object_to_scene + name_to_scene + caption_loss


def _vectors(encoder: Encoder, z: Tensor, residual: Tensor) -> Tensor:
    return F.normalize(encoder.project(encoder.norm(encoder.layers[-1].tail(z, residual))), dim=-1)


def _soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy with targets [rows, classes] normalised by row."""
    target = target / target.sum(1, keepdim=True)
    return -(target * logits.log_softmax(-1)).sum(-1).mean()

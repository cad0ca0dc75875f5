"""A small segment-anything model of its own classes."""

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from foir.segment import sam

SIDE = 128


def small_sam(seed):
    """A segment-anything model of its own classes, small, with random weights."""
    torch.manual_seed(seed)
    encoder = ImageEncoderViT(
        img_size=SIDE, patch_size=16, embed_dim=32, depth=2, num_heads=2, out_chans=64, use_rel_pos=True,
        window_size=4, global_attn_indexes=(1,),
    )  # fmt: skip
    prompts = PromptEncoder(64, (SIDE // 16, SIDE // 16), (SIDE, SIDE), 16)
    return Sam(encoder, prompts, MaskDecoder(transformer_dim=64, transformer=TwoWayTransformer(2, 64, 4, 128)))


@pytest.fixture(scope="module")
def checkpoint():
    return sam.CheckpointSam(small_sam(0), "made")

"""SAM against its own libraries."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from transformers import (
    SamConfig,
    SamImageProcessor,
    SamMaskDecoderConfig,
    SamModel,
    SamProcessor,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

from foir import Prompt
from foir.patches import rasterise
from foir.prompts import Stroke
from foir.segment import sam
from tests.conftest import scene

SIDE = 128
BOX = (30.0, 20.0, 90.0, 80.0)


@pytest.fixture(scope="module")
def transformed():
    """A SamModel of transformers, small, with random weights."""
    torch.manual_seed(0)
    vision = SamVisionConfig(
        hidden_size=32, output_channels=64, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=16,
        window_size=4, global_attn_indexes=[1], mlp_dim=64, num_pos_feats=32,
    )  # fmt: skip
    prompts = SamPromptEncoderConfig(hidden_size=64, image_size=SIDE, patch_size=16)
    decoder = SamMaskDecoderConfig(hidden_size=64, mlp_dim=128, num_attention_heads=4, iou_head_hidden_dim=64)
    model = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder))
    processor = SamImageProcessor(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE})
    return sam.TransformersSam(model, processor, "made")


def test_a_checkpoint_gives_what_its_own_predictor_gives(checkpoint):
    image = scene(0, (160, 120))
    predictor = SamPredictor(checkpoint.model)
    predictor.set_image(np.asarray(image))
    looked = checkpoint.encode_image(image)
    theirs, _, _ = predictor.predict(box=np.array(BOX), multimask_output=False)
    assert np.array_equal(checkpoint.boxes(looked, [BOX])[0], theirs[0])
    points = [(40.0, 50.0), (60.0, 55.0)]
    theirs, scores, _ = predictor.predict(point_coords=np.array(points), point_labels=np.ones(2))
    assert np.array_equal(checkpoint.points(looked, points), theirs[scores.argmax()])


def test_transformers_gives_what_its_own_pipeline_gives(transformed):
    image = scene(0, (160, 120))
    processor = SamProcessor(transformed.processor)
    given = processor(images=image, input_boxes=[[list(BOX)]], return_tensors="pt")
    sizes = given["original_sizes"], given["reshaped_input_sizes"]
    with torch.no_grad():
        made = transformed.model(
            pixel_values=given["pixel_values"], input_boxes=given["input_boxes"].float(), multimask_output=False
        )
    (theirs,) = processor.post_process_masks(made.pred_masks, *sizes)
    ours = transformed.boxes(transformed.encode_image(image), [BOX])[0]
    assert ours.shape == (120, 160) and (ours != theirs[0, 0].numpy()).mean() < 0.01


@pytest.mark.parametrize("kind", ["checkpoint", "transformed"])
def test_many_boxes_at_once_and_any_prompt_give_masks_of_the_picture(kind, request):
    model, image = request.getfixturevalue(kind), scene(1, (120, 160))
    looked = model.encode_image(image)
    both = model.boxes(looked, [BOX, (5, 90, 60, 140)])
    assert [mask.shape for mask in both] == [(160, 120)] * 2
    assert np.array_equal(both[1], model.boxes(looked, [(5, 90, 60, 140)])[0])
    outline = model.outline(image)
    for prompt in (
        Prompt.point(50, 60),
        Prompt.box(*BOX),
        Prompt(strokes=(Stroke(((20, 30), (60, 80), (70, 90)), 8),)),
    ):
        mask = rasterise(prompt, image.size, (8, 8))
        found = outline(prompt, mask)
        assert found.shape == (160, 120) and found.any()


def test_an_empty_answer_leaves_what_was_pointed_at():
    silent: Any = SimpleNamespace(encode_image=lambda image: None, boxes=lambda *_: [np.zeros((120, 160), bool)])
    mask = rasterise(Prompt.box(*BOX), (160, 120), (8, 8))
    assert np.array_equal(sam.Sam.outline(silent, scene(0))(Prompt.box(*BOX), mask), mask.pixels)

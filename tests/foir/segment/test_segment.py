"""From a prompt to an outline: SAM against its own libraries, regions of `mini`, patches alike."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling import Sam as TheirSam
from transformers import (
    SamConfig,
    SamImageProcessor,
    SamMaskDecoderConfig,
    SamModel,
    SamProcessor,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

from foir import Prompt, Unavailable, encoders, segment
from foir.patches import rasterise
from foir.playroom import compose
from foir.prompts import Stroke
from foir.segment import regions, sam, similar_patches
from foir.segment.merge_tree import RegionTree
from foir.segment.regions import RegionProposals, RegionProposer
from tests.conftest import iou, scene

SIDE = 128
BOX = (30.0, 20.0, 90.0, 80.0)


@pytest.fixture(scope="module")
def checkpoint():
    """A segment-anything model of its own classes, small, with random weights."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=SIDE, patch_size=16, embed_dim=32, depth=2, num_heads=2, out_chans=64, use_rel_pos=True,
        window_size=4, global_attn_indexes=(1,),
    )  # fmt: skip
    prompts = PromptEncoder(64, (SIDE // 16, SIDE // 16), (SIDE, SIDE), 16)
    decoder = MaskDecoder(transformer_dim=64, transformer=TwoWayTransformer(2, 64, 4, 128))
    return sam.CheckpointSam(TheirSam(encoder, prompts, decoder), "made")


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


def test_weights_that_are_not_sams_are_told_in_one_sentence(tmp_path, monkeypatch):
    path = tmp_path / "sam_vit_b_made.pth"
    monkeypatch.setenv("FOIR_SAM", str(path))
    with pytest.raises(Unavailable, match="not a checkpoint"):
        segment.load_sam()
    path.write_bytes(b"junk")
    with pytest.raises(Unavailable, match="not a checkpoint of SAM vit_b"):
        segment.load_sam()
    monkeypatch.setenv("FOIR_SAM", str(tmp_path / "other.pth"))
    with pytest.raises(Unavailable, match="does not say which"):
        segment.load_sam()


def test_a_checkpoint_file_is_opened_by_its_name(checkpoint, tmp_path, monkeypatch):
    path = tmp_path / "sam_vit_b_made.pth"
    torch.save(checkpoint.model.state_dict(), path)
    fresh = TheirSam(*(_fresh(part) for part in ("image_encoder", "prompt_encoder", "mask_decoder")))
    monkeypatch.setattr("segment_anything.sam_model_registry", {"vit_b": lambda: fresh})
    monkeypatch.setenv("FOIR_SAM", str(path))
    anything: Any = SimpleNamespace(device="cpu")
    opened = segment.load_segmenter(anything)
    mask = rasterise(Prompt.box(*BOX), (160, 120), (8, 8))
    expected = checkpoint.outline(scene(0))(Prompt.box(*BOX), mask)
    assert np.array_equal(opened(scene(0))(Prompt.box(*BOX), mask), expected)


def _fresh(part):
    torch.manual_seed(9)
    if part == "image_encoder":
        return ImageEncoderViT(
            img_size=SIDE, patch_size=16, embed_dim=32, depth=2, num_heads=2, out_chans=64, use_rel_pos=True,
            window_size=4, global_attn_indexes=(1,),
        )  # fmt: skip
    if part == "prompt_encoder":
        return PromptEncoder(64, (SIDE // 16, SIDE // 16), (SIDE, SIDE), 16)
    return MaskDecoder(transformer_dim=64, transformer=TwoWayTransformer(2, 64, 4, 128))


# Without SAM.


@pytest.fixture(scope="module")
def mini():
    return encoders.load("mini", device="cpu")


def test_a_click_on_a_thing_of_the_playroom_gives_its_box(mini):
    grow, found, asked = RegionProposer(mini), 0, 0
    for number in range(3):
        composed = compose("held-out", 500 + number)
        outline = grow.outline(composed.image)
        for thing in composed.objects:
            ys, xs = np.nonzero(thing.mask)
            middle = len(ys) // 2  # a point that is on the thing
            prompt = Prompt.point(float(xs[middle]), float(ys[middle]))
            mask = outline(prompt, rasterise(prompt, composed.image.size, mini.grid))
            rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = np.array([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1], float)
            found += float(iou(box, np.array([thing.box], float))[0]) >= 0.5
            asked += 1
    assert asked > 10 and found >= 0.7 * asked, f"{found} of {asked}"


def test_proposals_find_most_things_of_the_playroom(mini):
    composed = compose("held-out", 510)
    proposed = np.array([region.box for region in RegionProposer(mini)(composed.image).top()])
    hit = [float(iou(np.array(thing.box, float), proposed).max()) >= 0.5 for thing in composed.objects]
    assert sum(hit) >= 0.6 * len(hit) and len(proposed) <= regions.MAX_REGIONS
    for region in RegionProposer(mini)(composed.image).top():
        ys, xs = np.nonzero(region.mask)
        assert region.mask.shape == (480, 640)
        assert region.box[0] - 1 <= xs.min() and xs.max() <= region.box[2] + 1


def test_regions_belong_to_the_encoder_they_were_learnt_for(toy, tmp_path):
    with pytest.raises(Unavailable, match="trained for mini"):
        RegionProposer(toy)
    (tmp_path / "rules.json").write_text("{}")
    with pytest.raises(Unavailable, match="cannot be read"):
        RegionProposer(toy, tmp_path / "rules.json")


def test_tiny_and_thin_pictures_have_regions_too(mini):
    for size in ((3, 2), (900, 20)):
        grown = RegionProposer(mini)(scene(0, (160, 120)).resize(size))
        assert all(region.mask.shape == size[::-1] for region in grown.top())


def test_patches_alike_hang_together_with_what_is_pointed_at(toy):
    prompt, image = Prompt.point(50, 40), scene(0)
    mask = rasterise(prompt, image.size, toy.grid)
    found = similar_patches.SimilarPatches(toy).outline(image)(prompt, mask)
    assert found[mask.pixels].all() and found.shape == (120, 160)
    chosen: Any = segment.load_segmenter(toy)
    assert chosen.__self__ == similar_patches.SimilarPatches(toy)


def test_of_overlapping_regions_the_best_is_kept_and_equal_ones_in_their_order():
    boxes = np.array([(0, 0, 10, 10), (1, 0, 11, 10), (20, 20, 30, 30), (40, 40, 50, 50)]) / 50
    tree = RegionTree(boxes, np.zeros((4, 1)), np.arange(4), np.zeros((0, 2), int), (2, 2))
    proposals = RegionProposals((50, 50), (tree,), (np.array([0.5, 0.9, 0.4, 0.4]),))
    assert [region.box[0] for region in proposals.top()] == pytest.approx([1, 20, 40])
    assert [region.score for region in proposals.top(min_score=0.6, min_count=1)] == [0.9]
    assert len(proposals.top(max_count=2)) == 2

"""OWLv2 in objectness mode against its library, and which detector is whose."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2TextConfig, Owlv2VisionConfig

from foir import Unavailable, encoders
from foir.playroom import compose
from foir.small_objects import detect
from tests.conftest import iou, scene


@pytest.fixture(scope="module")
def owl():
    torch.manual_seed(0)
    vision = Owlv2VisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=96, patch_size=16
    )
    text = Owlv2TextConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    model = Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=32))
    for head in (model.objectness_head, model.box_head):  # fresh heads say the same everywhere, or far too much
        for parameter in head.parameters():
            parameter.data = torch.randn_like(parameter) * (2 / parameter.shape[-1]) ** 0.5
    return model, Owlv2ImageProcessor(size={"height": 96, "width": 96})


def test_boxes_are_the_librarys_above_the_threshold_without_overlap(owl):
    model, processor = owl
    image = scene(0, (200, 120))
    with torch.no_grad():
        made = model(
            pixel_values=processor(images=image, return_tensors="pt")["pixel_values"],
            input_ids=torch.zeros(1, 4, dtype=torch.int64), attention_mask=torch.ones(1, 4, dtype=torch.int64),
        )  # fmt: skip
    scores = made.objectness_logits[0].sigmoid().numpy()
    (theirs,) = processor.post_process_object_detection(made, threshold=-1, target_sizes=[image.size[::-1]])
    theirs = np.clip(theirs["boxes"].numpy(), 0, [200, 120, 200, 120])
    found = detect.OwlDetector(model, processor)(image)
    sure = scores > detect.MIN_OBJECTNESS
    assert 1 < len(found) <= sure.sum()
    kept = np.array([thing.box for thing in found])
    for box in theirs[sure]:  # each was kept, or is overlapped by one that was
        assert iou(box, kept).max() > detect.MAX_IOU or (box[2:] - box[:2] < 1).any()
    for number, thing in enumerate(found):
        box = np.array(thing.box)
        place = np.abs(theirs - box).max(1).argmin()
        np.testing.assert_allclose(theirs[place], box, atol=0.01)
        assert scores[place] > detect.MIN_OBJECTNESS and thing.mask is None
        others = np.array([other.box for other in found[number + 1 :]]).reshape(-1, 4)
        assert not len(others) or iou(box, others).max() <= detect.MAX_IOU + 1e-6


def test_masks_come_from_sam_one_for_each_box_and_an_empty_one_is_left_out(owl):
    told = []

    class Sam:
        name = "sam"

        def encode_image(self, image):
            return image.size

        def boxes(self, size, boxes):
            told.append(boxes)
            full, empty = np.ones(size[::-1], bool), np.zeros(size[::-1], bool)
            return [empty if number == 0 else full for number, _ in enumerate(boxes)]

    model, processor = owl
    found = detect.OwlDetector(model, processor, Sam(), revision="abc")
    things = found(scene(0, (200, 120)))
    assert [thing.box for thing in things] == told[0] and found.name == "owlv2@abc+sam"
    assert things[0].mask is None and all(np.all(thing.mask) for thing in things[1:])


def test_nothing_found_is_no_error(owl):
    model, processor = owl
    sure = SimpleNamespace(
        image_embedder=model.image_embedder, box_predictor=model.box_predictor, device="cpu",
        objectness_predictor=lambda features: model.objectness_predictor(features) - 100,
    )  # fmt: skip
    sure.eval = lambda: sure
    sure.requires_grad_ = lambda _: sure
    assert detect.OwlDetector(sure, processor)(scene(0)) == []


def test_mini_finds_things_by_itself_and_others_need_weights(toy, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = detect.load(encoders.load("mini", device="cpu"))
    things = found(compose("held-out", 510).image)
    assert found.name.startswith("mini-regions@") and len(things) >= 3 and all(np.any(thing.mask) for thing in things)
    with pytest.raises(Unavailable, match="owlv2"):
        detect.load(toy)

"""The exporter of a detector's boxes, with small random weights of real architectures."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from eval import cli, detect
from eval.datasets import detections
from eval.datasets import load as load_data
from eval.datasets.base import CaptionedDataset
from foir import Unavailable, hub
from tests.eval.datasets.test_karpathy import SIZE, flickr

__all__ = ["flickr"]
LABELS: dict[str, Any] = {"num_labels": 5}


def small_rtdetr():
    """RT-DETR with a small ResNet: three levels of features, one layer each of encoder and decoder."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    backbone_options: dict[str, Any] = {"out_features": ["stage2", "stage3", "stage4"]}
    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic", **backbone_options,
    )  # fmt: skip
    return RTDetrForObjectDetection(
        RTDetrConfig(
            backbone_config=backbone, encoder_in_channels=[8, 8, 8], encoder_hidden_dim=16, d_model=16, **LABELS,
            decoder_in_channels=[16, 16, 16], decoder_layers=1, encoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, decoder_ffn_dim=16, encoder_ffn_dim=16, num_queries=6, num_denoising=0,
        )
    )  # fmt: skip


def small_yolos():
    """YOLOS: a ViT with detection tokens."""
    from transformers import YolosConfig, YolosForObjectDetection

    return YolosForObjectDetection(
        YolosConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[64, 96],
            patch_size=16, num_detection_tokens=7, **LABELS, use_mid_position_embeddings=False,
        )
    )  # fmt: skip


def processor_of(model):
    from transformers import RTDetrImageProcessor, YolosImageProcessor

    if model.config.model_type == "yolos":
        return YolosImageProcessor(size={"height": 64, "width": 96})
    return RTDetrImageProcessor(size={"height": 64, "width": 96})


@pytest.fixture(params=[small_rtdetr, small_yolos])
def detector(request, tmp_path, monkeypatch):
    """Weights on disk as the Hub has them; the model, and its processor."""
    folder = tmp_path / "weights"
    torch.manual_seed(0)
    model, processor = request.param().eval(), processor_of(request.param())
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    monkeypatch.setattr(hub, "download_weights", lambda repo, revision=None: (folder, revision or "c0ffee"))
    return model, processor


def test_the_boxes_are_the_librarys(detector, flickr, monkeypatch, capsys):
    model, processor = detector
    monkeypatch.setattr(detections, "MIN_SCORE", detect.LEAST_SCORE)
    assert cli.main(["detect", "--model", "a/b", "--dataset", "flickr30k", "--device", "cpu"]) == 0
    path = flickr / "detections.json"
    assert capsys.readouterr().out == f"{path} written\n"
    entries = json.loads(path.read_text())
    assert {entry["image_id"] for entry in entries} == {11, 13}
    assert {entry["detector"] for entry in entries} == {"a/b@c0ffee"} and not list(flickr.glob("*.part"))
    data = load_data("flickr30k", CaptionedDataset)
    for load, boxes in zip(data.images, data.boxes["detected"], strict=True):
        with torch.inference_mode():
            outputs = model(**processor(images=load(), return_tensors="pt"))
        (found,) = processor.post_process_object_detection(
            outputs, threshold=detect.LEAST_SCORE, target_sizes=[(SIZE[1], SIZE[0])]
        )
        assert len(boxes) == len(found["boxes"]) > 0
        np.testing.assert_allclose(boxes, found["boxes"], atol=0.02)


class Stub:
    """A detector that finds one box on each photo, and fails on the given call."""

    calls = 0

    def __init__(self, model, revision, device):
        self.name = f"{model}@{revision}"

    def __call__(self, image):
        Stub.calls += 1
        if Stub.calls == 2:
            raise KeyboardInterrupt
        return [{"category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.9, "detector": self.name}]


def test_a_killed_run_resumes_and_another_detector_is_not_mixed_in(flickr, monkeypatch):
    monkeypatch.setattr(detect, "Detector", Stub)
    monkeypatch.setattr(detect, "SAVED_EVERY", 1)
    Stub.calls = 0
    with pytest.raises(KeyboardInterrupt):
        detect.detect("a/b", "flickr30k", "1")
    assert not (flickr / "detections.json").exists()
    path = detect.detect("a/b", "flickr30k", "1")
    assert Stub.calls == 3 and [entry["image_id"] for entry in json.loads(path.read_text())] == [11, 13]
    detect.detect("a/b", "flickr30k-val", "1")  # both splits share a file
    assert Stub.calls == 4 and [entry["image_id"] for entry in json.loads(path.read_text())] == [11, 13, 12]
    whole = path.read_bytes()
    with pytest.raises(Unavailable, match="holds boxes of a/b@1, not of a/c@1: move it away first"):
        detect.detect("a/c", "flickr30k", "1")
    path.write_text('[{"image_id": 11, "bbox": [0, 0, 1, 1], "score": 1}]')
    with pytest.raises(Unavailable, match="holds boxes of an unnamed detector"):
        detect.detect("a/b", "flickr30k", "1")
    assert len(json.loads(path.read_text())) == 1 and len(json.loads(whole)) == 3


def test_what_is_no_detector_or_no_photo_set_is_one_sentence(flickr, tmp_path, monkeypatch):
    from transformers import Dinov2Config, Dinov2Model

    with pytest.raises(Unavailable, match="Detections belong to one of flickr30k, "):
        detect.detect("a/b", "flickr8k")
    folder = tmp_path / "weights"
    Dinov2Model(Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(folder)
    monkeypatch.setattr(hub, "download_weights", lambda repo, revision=None: (folder, "c0ffee"))
    with pytest.raises(Unavailable, match="do not fit AutoModelForObjectDetection"):
        detect.detect("a/b", "flickr30k", device="cpu")

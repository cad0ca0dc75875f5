"""prefix + finish against each library's own forward, and the invariants of the split."""

import numpy as np
import pytest
import torch
from open_clip.transformer import VisionTransformer
from PIL import Image
from torch.nn.functional import normalize
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from foir import encoders
from foir.encoders import clip, dinov2, openclip, siglip
from foir.encoders.intervention import PLAIN
from foir.errors import Unavailable
from foir.methods import intervene
from foir.patches import rasterise
from foir.prompts import Prompt
from tests.conftest import scene

RELATIVE = 1e-5  # design: prefix + finish against the library's own forward in fp32


def shaken(model):
    """Random weights everywhere: fresh models have zero biases and unit norms, which would hide mistakes."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def small_dinov2(registers, swiglu=False):
    facts = {
        "hidden_size": 48, "num_attention_heads": 6, "num_hidden_layers": 5, "patch_size": 14, "image_size": 126,
        "use_swiglu_ffn": swiglu,
    }  # fmt: skip
    if registers:
        return shaken(Dinov2WithRegistersModel(Dinov2WithRegistersConfig(num_register_tokens=4, **facts)))
    return shaken(Dinov2Model(Dinov2Config(**facts)))


def small_clip():
    config = CLIPVisionConfig(
        hidden_size=48, intermediate_size=96, num_attention_heads=4, num_hidden_layers=5, patch_size=16,
        image_size=96, projection_dim=24,
    )  # fmt: skip
    assert config.hidden_act == "quick_gelu"
    return shaken(CLIPVisionModelWithProjection(config))


def small_openclip(**facts):
    base = {"image_size": 96, "patch_size": 16, "width": 48, "layers": 5, "heads": 4, "mlp_ratio": 4, "output_dim": 24}
    return shaken(VisionTransformer(**(base | facts)))


def small_siglip():
    config = SiglipVisionConfig(
        hidden_size=48, intermediate_size=96, num_attention_heads=4, num_hidden_layers=5, patch_size=16, image_size=96
    )
    return shaken(SiglipVisionModel(config))


FAMILIES = {
    "dinov2 with registers": lambda: (m := small_dinov2(True), dinov2.wrap(m, "t", "r", size=84), "pooler_output"),
    "dinov2": lambda: (m := small_dinov2(False), dinov2.wrap(m, "t", "r", size=84), "pooler_output"),
    "dinov2 SwiGLU": lambda: (m := small_dinov2(True, True), dinov2.wrap(m, "t", "r", size=84), "pooler_output"),
    "clip": lambda: ((m := small_clip()).vision_model, clip.wrap(m, "t", "r"), "pooler_output"),
    "clip projected": lambda: (m := small_clip(), clip.wrap(m, "t", "r", projected=True), "image_embeds"),
    "openclip projected": lambda: (m := small_openclip(), openclip.wrap(m, "t", "r", projected=True), None),
    "openclip LayerScale": lambda: (
        m := small_openclip(ls_init_value=0.3), openclip.wrap(m, "t", "r", projected=True), None,
    ),
    "openclip without ln_pre": lambda: (
        m := small_openclip(no_ln_pre=True), openclip.wrap(m, "t", "r", projected=True), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_prefix_and_finish_give_the_librarys_own_feature(family):
    model, encoder, field = FAMILIES[family]()
    pixels = encoder.pixels([scene(i) for i in range(3)])
    with torch.no_grad():
        own = model(pixels)
    own = normalize(own if field is None else getattr(own, field), dim=-1)
    ours = encoder.finish(encoder.prefix(pixels)).vectors
    assert (ours - own).abs().max() < RELATIVE * own.abs().max()


def test_openclip_feature_before_the_projection_is_ln_post_of_cls():
    model = small_openclip()
    encoder = openclip.wrap(model, "t", "r")
    pixels = encoder.pixels([scene(0)])
    with torch.no_grad():
        own = model.ln_post(model.transformer(model._embeds(pixels)))[:, 0]
    assert torch.allclose(encoder.finish(encoder.prefix(pixels)).vectors, normalize(own, dim=-1), atol=1e-6)


def test_full_size_dinov2_base_with_registers():
    encoder = encoders.load("dinov2-base-reg", pretrained=False, device="cpu")
    pixels = encoder.pixels([scene(1)])
    assert (len(encoder.layers), encoder.heads, encoder.grid, encoder.registers) == (12, 12, (16, 16), 4)
    with torch.no_grad():
        own = normalize(encoder.module(pixels).pooler_output, dim=-1)
    ours = encoder.finish(encoder.prefix(pixels))
    assert ours.attention.shape == (1, 12, 261)
    assert (ours.vectors - own).abs().max() < RELATIVE * own.abs().max()


@pytest.mark.parametrize("name", ["clip-base", "openclip:ViT-B-32"])
def test_full_size_clip_towers_open(name):
    encoder = encoders.load(name, pretrained=False, device="cpu")
    assert encoder.finish(encoder.prefix(encoder.pixels([scene(0)]))).vectors.shape == (1, 768)


@pytest.mark.parametrize(
    "model", [{"pool_type": "avg"}, {"attentional_pool": True}, {"qk_norm": True, "block_type": "custom"}]
)
def test_openclip_towers_without_selectable_heads_are_refused(model):
    with pytest.raises(Unavailable, match="CLS"):
        openclip.wrap(small_openclip(**model), "openclip:x/y", "r")


def test_every_card_names_its_size():
    cards = encoders.encoder_specs()
    assert {f"dinov2-{size}{reg}" for size in ("small", "base", "large", "giant") for reg in ("", "-reg")} <= set(cards)
    assert {"clip-base", "clip-large", "openclip:", "mini"} <= set(cards)
    giant = cards["dinov2-giant-reg"]
    assert (giant.dim, giant.heads, giant.blocks) == (1536, 24, 40)


@pytest.mark.parametrize(
    "name", ["nothing", "openclip:", "openclip:NoSuchModel/tag", "mini-trunk:13", "openclip:ViT-B-32/x"]
)
def test_unknown_names_are_refused_in_one_sentence(name):
    with pytest.raises(Unavailable) as caught:
        encoders.load(name)
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_fetched_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Unavailable, match="facebook/dinov2-with-registers-small"):
        encoders.load("dinov2-small-reg")


def test_unknown_device_and_dtype_are_refused():
    with pytest.raises(Unavailable, match="dtype"):
        encoders.load("toy", dtype="float8")
    with pytest.raises(Unavailable, match="device"):
        encoders.load("toy", device="quantum")


def interventions(encoder, image, names):
    prompt = Prompt.box(30, 20, 90, 80).fit(image.size)
    mask = rasterise(prompt, image.size, encoder.grid)
    return [intervene(name, prompt, mask, {"h_on": 2} if "phs" in name else None) for name in names]


NAMES = ("cbir", "phs", "foveal", "attention_mask", "mask", "crop", "foveal|phs", "crop|phs")


def test_batch_equals_single(toy):
    images = [scene(i) for i in range(4)]
    together = toy.finish(toy.prefix(toy.pixels(images))).vectors
    alone = torch.cat([toy.finish(toy.prefix(toy.pixels([image]))).vectors for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_mixed_interventions_in_one_call_equal_each_alone(toy, photo):
    steps = interventions(toy, photo, NAMES)
    prefix = toy.prefix(toy.pixels([photo]))
    together = toy.features(photo, steps, prefix)
    for i, step in enumerate(steps):
        alone = toy.features(photo, [step])
        assert torch.allclose(together.vectors[i], alone.vectors[0], atol=1e-5), NAMES[i]
        assert together.gates[i] == alone.gates[0]


def test_one_intervention_per_picture_of_a_batch(toy, photo):
    steps = interventions(toy, photo, ("phs", "foveal", "cbir"))
    images = [scene(i) for i in range(3)]
    batch = toy.finish(toy.prefix(toy.pixels(images)), steps)
    for i, image in enumerate(images):
        assert torch.allclose(batch.vectors[i], toy.features(image, [steps[i]]).vectors[0], atol=1e-5)


def test_a_slice_of_a_prefix_is_that_pictures_prefix(toy):
    prefix = toy.prefix(toy.pixels([scene(0), scene(1)]))
    assert len(prefix) == 2
    assert torch.equal(prefix[1].deep, prefix.deep[1:2])
    assert torch.allclose(toy.finish(prefix[1]).vectors, toy.finish(prefix).vectors[1:], atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_points_the_same_way(toy, photo, dtype):
    half = encoders.load("toy", device="cpu", dtype=dtype)
    steps = interventions(toy, photo, NAMES)
    cosine = (half.features(photo, steps).vectors * toy.features(photo, steps).vectors).sum(-1)
    assert cosine.min() > 0.99
    assert half.features(photo, [PLAIN]).vectors.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_heads_are_selected_by_is_float32_in_every_dtype(dtype, photo):
    """The logits of halved queries and keys are not rounded again; rounding them changes the heads."""
    half = encoders.load("toy", device="cpu", dtype=dtype)
    prefix = half.prefix(half.pixels([photo]))
    block = prefix.block
    logits = (block.queries[:, :, 0, None].double() @ block.keys.double().transpose(-1, -2)).squeeze(-2) / 8**0.5
    attention = half.finish(prefix).attention
    assert block.logits.dtype == attention.dtype == torch.float32
    torch.testing.assert_close(attention.double(), logits.softmax(-1), rtol=1e-5, atol=1e-7)


def test_hidden_pixels_are_zero_after_normalisation(toy):
    image = scene(0).convert("RGBA")
    image.putalpha(0)
    assert toy.pixels([image]).abs().max() == 0


def test_pixels_squeeze_the_whole_picture(toy):
    wide = Image.fromarray(np.tile(np.array([[[255, 0, 0]], [[0, 0, 255]]], np.uint8).repeat(40, 0), (1, 300, 1)))
    pixels = toy.pixels([wide])[0]
    assert pixels.shape == (3, 112, 112)
    assert pixels[0, 5].min() > pixels[0, -5].max()


def test_queries_open_lazily_and_agree_with_the_logits(toy, photo):
    block = toy.prefix(toy.pixels([photo])).block
    logits = (block.queries[:, :, :1] @ block.keys.transpose(-1, -2)).squeeze(-2) / 8**0.5
    assert torch.allclose(logits, block.logits, atol=1e-5)
    assert block.first_patch == 5


def test_patch_vectors_are_the_models_last_hidden_state(toy, photo):
    pixels = toy.pixels([photo])
    with torch.no_grad():
        own = normalize(toy.module(pixels).last_hidden_state[:, 5:], dim=-1)
    assert torch.allclose(toy.patch_features(toy.prefix(pixels)), own, atol=1e-5)


def test_mini_trunk_is_checked_before_it_is_read(monkeypatch, tmp_path):
    from foir.mini import backbone

    monkeypatch.setattr(backbone, "SHA256", "0" * 64)
    with pytest.raises(Unavailable, match="reinstall"):
        encoders.load("mini")


def test_mini_trunk_agrees_with_its_own_onnx_run():
    import onnx
    import onnxruntime

    from foir.mini import backbone

    graph = onnx.load(str(backbone.weights_path()))
    name = "/backbone/layernorm/Add_1_output_0"
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    (theirs,) = session.run([name], {"input_image": pixels.numpy()})
    trunk = encoders.load("mini-trunk:12", device="cpu")
    prefix = trunk.prefix(pixels)
    with torch.inference_mode():
        ours = trunk.normed(trunk.layers[-1](prefix.block.tokens)).numpy()
    assert np.abs(ours - theirs).max() < 2e-5 * max(1, np.abs(theirs).max())


def test_dinov2_is_loaded_from_a_repositorys_files(monkeypatch, tmp_path):
    model = small_dinov2(True)
    model.save_pretrained(tmp_path / "0123abc")
    monkeypatch.setattr("foir.hub.download_weights", lambda repo, revision: (tmp_path / "0123abc", "0123abc"))
    encoder = encoders.load("dinov2-small-reg", revision="main", device="cpu")
    assert (encoder.revision, encoder.heads, encoder.grid) == ("0123abc", 6, (16, 16))
    pixels = encoder.pixels([scene(0)])
    with torch.no_grad():
        own = normalize(model(pixels).pooler_output, dim=-1)
    assert torch.allclose(encoder.finish(encoder.prefix(pixels)).vectors, own, atol=1e-5)


@pytest.mark.parametrize("name", ["clip-base", "clip-base-projected"])
def test_clips_image_tower_is_loaded_from_a_whole_clip_checkpoint(monkeypatch, tmp_path, name):
    vision = {
        "hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 5,
        "patch_size": 16, "image_size": 96, "projection_dim": 24,
    }  # fmt: skip
    text = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    whole = shaken(CLIPModel(config))
    whole.save_pretrained(tmp_path / "c0ffee")
    monkeypatch.setattr("foir.hub.download_weights", lambda repo, revision: (tmp_path / "c0ffee", "c0ffee"))
    encoder = encoders.load(name, device="cpu")
    pixels = encoder.pixels([scene(0), scene(1)])
    with torch.no_grad():
        pooled = whole.vision_model(pixels).pooler_output
        own = normalize(whole.visual_projection(pooled) if name.endswith("projected") else pooled, dim=-1)
    assert torch.allclose(encoder.finish(encoder.prefix(pixels)).vectors, own, atol=1e-5)


def test_siglip_pools_as_its_library_does_and_refuses_to_be_steered():
    model = small_siglip()
    encoder = siglip.wrap(model, "t", "r")
    pixels = encoder.pixels([scene(i) for i in range(3)])
    with torch.no_grad():
        own = normalize(model(pixels).pooler_output, dim=-1)
    prefix = encoder.prefix(pixels)
    torch.testing.assert_close(encoder.finish(prefix).vectors, own, rtol=RELATIVE, atol=RELATIVE)
    assert encoder.patch_features(prefix).shape == (3, 36, 48) and prefix.block.first_patch == 0
    image = scene(0, (96, 96))
    mask = rasterise(Prompt.box(10, 10, 50, 50).fit((96, 96)), (96, 96), encoder.grid)
    for method in ("cbir", "mask", "crop"):
        assert encoder.features(image, [intervene(method, Prompt.box(10, 10, 50, 50), mask)]).vectors.shape == (1, 48)
    with pytest.raises(Unavailable, match="no CLS token"):
        encoder.features(image, [intervene("phs", Prompt.box(10, 10, 50, 50), mask)])

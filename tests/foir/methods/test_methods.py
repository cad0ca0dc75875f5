"""Methods against the formulas: a literal numpy transcription, the specs' golden values, and invariants."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from foir.encoders.base import Encoder
from foir.encoders.block import BlockModules
from foir.encoders.intervention import HeadGate
from foir.errors import BadPrompt
from foir.methods import chain, intervene, methods
from foir.methods.foveal import token_window, window
from foir.methods.phs import VARIANTS, gate
from foir.patches import PatchMask, rasterise
from foir.prompts import Prompt, Stroke
from tests.conftest import scene


def pointed(encoder, prompt=None, size=(160, 120)) -> tuple[Prompt, PatchMask]:
    prompt = (prompt or Prompt.box(30, 20, 90, 80)).fit(size)
    return prompt, rasterise(prompt, size, encoder.grid)


def features(encoder, image, name, prompt=None, **options):
    made = intervene(name, *pointed(encoder, prompt, image.size), options)
    return encoder.features(image, [made])


# --- the formulas, literally, on the toy model's own weights -----------------------------------------------------


def literal_last_block(encoder, block, patches, h_on, variant, extra=None, roi="sum"):
    """The last block of PHS in numpy, one head at a time."""
    layer = encoder.module.encoder.layer[-1]
    weight = {name: p.detach().numpy().astype(np.float64) for name, p in layer.named_parameters()}

    def linear(x, name):
        return x @ weight[f"{name}.weight"].T + weight[f"{name}.bias"]

    def norm(x, w, b):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * w + b

    x = block.tokens[0].numpy().astype(np.float64)
    u = norm(x, weight["norm1.weight"], weight["norm1.bias"])
    q, k, v = (linear(u, f"attention.{p}_proj") for p in "qkv")
    heads, width = encoder.heads, q.shape[1] // encoder.heads
    rows, outputs = [], []
    for i in range(heads):
        part = slice(i * width, (i + 1) * width)
        logits = q[0, part] @ k[:, part].T / math.sqrt(width)
        if extra is not None:
            logits = logits + extra
        a = np.exp(logits - logits.max())
        rows.append(a / a.sum())
        outputs.append(rows[-1] @ v[:, part])
    inside = [block.first_patch + t for t in np.flatnonzero(patches.reshape(-1))]
    looks = [row[inside].sum() if roi == "sum" else row[inside].max() for row in rows]
    on = sorted(range(heads), key=lambda i: (-looks[i], i))[:h_on]
    scale = heads / h_on if variant.endswith("+scale") else 1.0
    for i in range(heads):
        if variant == "identity" and i not in on:
            outputs[i] = v[0, i * width : (i + 1) * width]
        if variant.startswith("before"):
            outputs[i] = outputs[i] * (scale if i in on else 0.0)
    o = linear(np.concatenate(outputs), "attention.o_proj")
    if variant.startswith("after"):
        for i in range(heads):
            o[i * width : (i + 1) * width] *= scale if i in on else 0.0
    y = x[0] + weight["layer_scale1.lambda1"] * o
    hidden = linear(norm(y, weight["norm2.weight"], weight["norm2.bias"]), "mlp.fc1")
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    z = y + weight["layer_scale2.lambda1"] * linear(hidden, "mlp.fc2")
    final = encoder.module.layernorm
    f = norm(z, final.weight.detach().numpy(), final.bias.detach().numpy())
    return f / np.linalg.norm(f), tuple(sorted(on))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("h_on", [1, 2, 5, 6])
def test_phs_is_the_papers_formula(toy, photo, variant, h_on):
    _, mask = pointed(toy)
    block = toy.prefix(toy.pixels([photo])).block
    expected, on = literal_last_block(toy, block, mask.patches, h_on, variant)
    made = features(toy, photo, "phs", h_on=h_on, variant=variant)
    assert made.gates[0].on == on
    assert np.abs(made.vectors[0].numpy() - expected).max() < 1e-5


def test_phs_with_max_takes_each_heads_strongest_patch(toy, photo):
    _, mask = pointed(toy)
    block = toy.prefix(toy.pixels([photo])).block
    expected, on = literal_last_block(toy, block, mask.patches, 2, "before+scale", roi="max")
    made = features(toy, photo, "phs", h_on=2, roi="max")
    assert made.gates[0].on == on
    assert np.abs(made.vectors[0].numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("hide_special", [False, True])
def test_attention_mask_is_minus_infinity_outside(toy, photo, hide_special):
    _, mask = pointed(toy)
    block = toy.prefix(toy.pixels([photo])).block
    extra = np.concatenate([np.full(5, hide_special), ~mask.patches.reshape(-1)])
    expected, _ = literal_last_block(toy, block, mask.patches, 6, "before", np.where(extra, -np.inf, 0.0))
    made = features(toy, photo, "attention_mask", hide_special=hide_special)
    assert np.abs(made.vectors[0].numpy() - expected).max() < 1e-5


def test_foveal_adds_its_window_to_cls_rows_of_the_last_four_blocks(toy, photo):
    """The library's own forward with an additive T x T mask that is zero but for row 0."""
    prompt, mask = pointed(toy)
    rows, cols = token_window(prompt.boxes[0], photo.size, toy.grid)
    bump = np.zeros(toy.grid)
    bump[rows, cols] = window(rows.stop - rows.start, cols.stop - cols.start)
    additive = torch.zeros(69, 69)
    additive[0, 5:] = torch.from_numpy(bump.reshape(-1)).float()
    model = toy.module
    with torch.no_grad():
        x = model.embeddings(toy.pixels([photo]))
        for layer in model.encoder.layer:  # the toy has four blocks: all of them
            x = layer(x, additive[None, None])
        own = torch.nn.functional.normalize(model.layernorm(x)[:, 0], dim=-1)
    made = features(toy, photo, "foveal")
    plain = features(toy, photo, "cbir")
    assert (made.vectors - own).abs().max() < 1e-5
    assert (made.vectors - plain.vectors).abs().max() > 1e-5


# --- golden values of an independent implementation in plain NumPy -------------------------------------------------

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())
REGION = (3, 4, 7, 8)  # patches of the region, counted from 1


@pytest.fixture(scope="module")
def golden():
    """A block with LN without affine, ReLU FFN, LayerScale, 4 registers, a 4 x 4 grid; its tokens [21, 48]."""
    rng, d = np.random.default_rng(0), 48
    w = {name: torch.from_numpy(rng.standard_normal((d, d)) / math.sqrt(d)) for name in "qkvo"}
    bo = torch.from_numpy(rng.standard_normal(d) * 0.1)
    w1 = torch.from_numpy(rng.standard_normal((d, 4 * d)) / math.sqrt(d))
    w2 = torch.from_numpy(rng.standard_normal((4 * d, d)) / math.sqrt(4 * d))

    def norm(x):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6)

    layer = BlockModules(
        heads=6,
        norm1=norm,
        qkv=lambda u: (u @ w["q"], u @ w["k"], u @ w["v"]),
        out=lambda z: z @ w["o"] + bo,
        norm2=norm,
        ffn=lambda y: torch.relu(y @ w1) @ w2,
        scale1=lambda x: 0.3 * x,
        scale2=lambda x: 0.2 * x,
    )
    encoder = Encoder("golden", "0", lambda x: x, [layer], norm, 8, (4, 4), registers=4, dtype=torch.float64)
    return encoder, torch.from_numpy(rng.standard_normal((21, d)))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("h_on", [1, 3, 6])
def test_golden_values_of_head_selection(golden, variant, h_on):
    encoder, tokens = golden
    patches = np.zeros(16, bool)
    patches[[patch - 1 for patch in REGION]] = True
    mask = PatchMask(patches.reshape(4, 4), np.ones((8, 8), bool))
    step = intervene("phs", Prompt.box(0, 0, 8, 8), mask, {"h_on": h_on, "variant": variant})
    result = encoder.finish(encoder.prefix(tokens[None]), [step])
    expected = GOLDEN["phs"][f"{variant}/{h_on}"]
    assert list(result.gates[0].on) == expected["heads"]
    assert np.abs(result.vectors[0].numpy() - expected["feature"]).max() < 1e-6


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (6, 4), (16, 16)])
def test_golden_values_of_the_foveal_window(shape):
    assert np.allclose(window(*shape), GOLDEN["foveal"]["x".join(map(str, shape))], atol=1e-11)


# --- invariants --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["before+scale", "before", "after", "after+scale", "identity"])
def test_phs_with_all_heads_is_bit_identical_to_cbir(toy, photo, variant):
    everything = features(toy, photo, "phs", h_on=6, variant=variant)
    assert torch.equal(everything.vectors, features(toy, photo, "cbir").vectors)


@pytest.mark.parametrize("base", ["foveal", "crop"])
def test_chained_phs_with_all_heads_equals_the_method_without_it(toy, photo, base):
    chained = features(toy, photo, f"{base}|phs", h_on=6)
    assert torch.equal(chained.vectors, features(toy, photo, base).vectors)


def test_cbir_ignores_the_prompt(toy, photo):
    a = features(toy, photo, "cbir", Prompt.point(3, 3))
    b = features(toy, photo, "cbir", Prompt.box(50, 50, 150, 110))
    assert torch.equal(a.vectors, b.vectors)


def test_prompts_over_everything_change_little_or_nothing(toy, photo):
    whole = Prompt.box(0, 0, *photo.size)
    plain = features(toy, photo, "cbir").vectors
    for name in ("mask", "crop", "attention_mask"):
        assert torch.allclose(features(toy, photo, name, whole).vectors, plain, atol=1e-5), name


def test_ties_go_to_the_lower_head():
    assert gate(torch.tensor([0.5, 0.7, 0.7, 0.7, 0.1]), 2).on == (1, 2)
    assert gate(torch.zeros(6), 3).on == (0, 1, 2)


def test_scale_keeps_the_overall_attention():
    kept = gate(torch.tensor([0.1, 0.4, 0.2, 0.3]), 2)
    assert kept == HeadGate((0.0, 2.0, 0.0, 2.0))


@pytest.mark.parametrize("h_on", [0, 7, -6, 99])
def test_more_heads_than_there_are_is_refused(toy, photo, h_on):
    with pytest.raises(BadPrompt, match="6 heads"):
        features(toy, photo, "phs", h_on=h_on)


def test_minus_one_keeps_all_heads_but_the_one_that_looks_least_at_patches(toy, photo):
    made = features(toy, photo, "crop|phs", h_on=-1)
    looks = made.attention[0, :, 5:].sum(-1)
    assert made.gates[0].on == tuple(i for i in range(6) if i != int(looks.argmin()))


def test_foveal_then_phs_selects_on_the_attention_that_foveal_made(toy, photo):
    made = features(toy, photo, "foveal|phs", h_on=2, alpha=6.0)
    _, mask = pointed(toy)
    fovea = features(toy, photo, "foveal", alpha=6.0)
    looks = fovea.attention[0][:, 5:][:, torch.from_numpy(mask.patches.reshape(-1))].sum(-1)
    assert made.gates[0].on == tuple(sorted(looks.sort(descending=True, stable=True).indices[:2].tolist()))


def test_foveal_window_has_its_height_at_the_centre_and_none_in_the_corners():
    bump = window(5, 5)
    assert bump[2, 2] == pytest.approx(0.2)
    assert bump[0, 0] == pytest.approx(0, abs=1e-3)
    assert np.allclose(window(1, 1), 0.2)
    assert np.allclose(window(2, 2), 0.2)


@pytest.mark.parametrize(
    ("box", "expected"),
    [((0, 0, 224, 224), (0, 16, 0, 16)), ((14, 28, 28, 42), (1, 3, 0, 2)), ((15, 29, 27, 41), (2, 3, 1, 2))],
)
def test_foveal_boxes_follow_falips_border_rule(box, expected):
    rows, cols = token_window(box, (224, 224), (16, 16))
    assert (rows.start, rows.stop, cols.start, cols.stop) == expected


def test_foveal_takes_the_box_around_other_prompts_and_says_so(toy, photo):
    stroke = Prompt(strokes=(Stroke(((40.0, 40.0), (80.0, 60.0)), 10.0),))
    said = intervene("foveal", *pointed(toy, stroke))
    assert "box around" in said.notes[0]
    assert not intervene("foveal", *pointed(toy)).notes


def test_several_boxes_make_several_bumps(toy, photo):
    both = Prompt(boxes=((0, 0, 40, 40), (100, 60, 150, 110)))
    made = features(toy, photo, "foveal", both, alpha=50.0)
    seen = made.attention[0].mean(0)[5:].reshape(8, 8)
    assert seen[1, 1] > 0.05
    assert seen[5, 6] > 0.05


@pytest.mark.parametrize("fill", ["mean", "black"])
def test_mask_blanks_what_is_outside_and_keeps_what_is_inside(toy, photo, fill):
    prompt, mask = pointed(toy, Prompt.box(40, 30, 120, 90))
    step = intervene("mask", prompt, mask, {"fill": fill}).pixels
    assert step is not None
    blanked = toy.pixels([step(photo)])[0]
    original = toy.pixels([photo])[0]
    assert torch.allclose(blanked[:, 40:70, 40:70], original[:, 40:70, 40:70])
    outside = blanked[:, :20, :20]
    assert outside.abs().max() == 0 if fill == "mean" else torch.allclose(outside[0], outside[0, 0, 0].expand(20, 20))
    assert (outside == 0).all() == (fill == "mean")


def test_crop_of_a_pixel_still_encodes(toy, photo):
    assert features(toy, photo, "crop", Prompt.box(159.5, 119.5, 160, 120)).vectors.isfinite().all()


def test_options_reach_the_method_that_knows_them_and_no_other(toy):
    with pytest.raises(BadPrompt, match="no option sigmoid"):
        intervene("foveal|phs", *pointed(toy), {"sigmoid": 1})
    assert set(methods()["phs"].options) == {"h_on", "roi", "variant", "keep", "drop"}


@pytest.mark.parametrize(
    ("name", "options"),
    [("phs", {"roi": "mean"}), ("phs", {"variant": "between"}), ("mask", {"fill": "blur"}), ("warp", {}), ("phs|", {})],
)
def test_unknown_names_are_refused(toy, name, options):
    with pytest.raises(BadPrompt):
        intervene(name, *pointed(toy), options)


def test_a_pixel_method_behind_crop_works_on_the_cut_out(toy, photo):
    crop = features(toy, photo, "crop").vectors
    for name in ("crop|mask", "crop|crop"):
        assert torch.allclose(features(toy, photo, name).vectors, crop, atol=1e-5), name
    assert features(toy, photo, "mask|mask", fill="black").vectors.isfinite().all()


def test_two_head_selections_cannot_be_chained(toy):
    with pytest.raises(BadPrompt, match="chained"):
        intervene("phs|phs", *pointed(toy))


def test_registering_imports_no_torch():
    code = (
        "import sys; from foir import encoders, methods; encoders.encoder_specs(); methods.methods(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0
    assert chain("foveal|phs")[1].name == "phs"


def test_pictures_of_other_sizes_share_a_grid(toy):
    tall = scene(2, (90, 200))
    assert features(toy, tall, "phs", Prompt.box(0, 0, 10, 10)).vectors.shape == (1, 48)


def test_heads_switched_by_hand_count_among_those_that_are_kept():
    looks = torch.tensor([0.1, 0.4, 0.2, 0.3])
    assert gate(looks, 2).on == (1, 3)
    assert gate(looks, 2, keep=[0]).on == (0, 1)
    assert gate(looks, 2, drop=[1]).on == (2, 3)
    assert gate(looks, 2, keep=[0], drop=[1]).on == (0, 3)
    assert gate(looks, 1, keep=[0, 2]).on == (0, 2)  # all that were asked for, even when more than h_on
    assert gate(looks, 4, drop=[1, 2]).on == (0, 3)
    assert gate(looks, 2, keep=[1], drop=[0]) == gate(looks, 2)
    kept = gate(looks, 4, drop=[1])
    assert kept.before == pytest.approx((4 / 3, 0, 4 / 3, 4 / 3))  # louder by the share that is on


@pytest.mark.parametrize(
    ("keep", "drop", "words"),
    [([4], [], "no head 4"), ([], [-1], "no head -1"), ([1], [1], "on and off"), ([], [0, 1, 2, 3], "leave one on")],
)
def test_heads_that_cannot_be_switched_so(keep, drop, words):
    with pytest.raises(BadPrompt, match=words):
        gate(torch.tensor([0.1, 0.4, 0.2, 0.3]), 2, keep=keep, drop=drop)

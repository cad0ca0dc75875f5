"""Query perturbation inside models: untouched it is the library's own forward, attached it is a slow literal one."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir import BadPrompt, Prompt, Unavailable, image_text, images
from foir.image_text import blip2, clip, coca, internvl
from foir.patches import rasterise
from foir.perturbation import beam_search
from foir.perturbation.query_perturbation import Perturbation
from foir.perturbation.views import replace_modules
from tests import lookalikes
from tests.conftest import scene

SIZE = (160, 120)
TEXTS = ["a dog", "two cats on a mat"]


def open_blip2():
    from transformers import Blip2ForImageTextRetrieval

    model = lookalikes.blip2(Blip2ForImageTextRetrieval)
    sites = [layer.crossattention.attention for layer in model.qformer.encoder.layer[::2]]
    opened = blip2.Blip2Retrieval("blip2", "made", model, lookalikes.Letters(1))
    return model, opened, [(s, s.query, s.num_attention_heads) for s in sites]


def open_coca():
    model = lookalikes.coca()
    return model, coca.Coca(model, CocaLetters(), "made"), [(model.visual.attn_pool, None, 3)]


def open_internvl():
    model = lookalikes.stirred(lookalikes.InternVLike())
    sites = [(layer.cross_attn, layer.cross_attn.q_proj, 4) for layer in model.qllama.model.layers[::2]]
    opened = internvl.InternVL(model, lookalikes.Letters(0), "made")
    return model, opened, [*sites, (model.clip_projector.cross_attn, None, 3)]


class CocaLetters:
    """open_clip's way of calling."""

    def __call__(self, texts):
        rows = [self.encode(text)[:10] for text in texts]
        return torch.tensor([[97, *row, lookalikes.END] + [0] * (10 - len(row)) for row in rows])

    sot_token_id, eot_token_id = 97, lookalikes.END

    def decode(self, ids):
        return " ".join(map(str, ids))

    def encode(self, text):
        return [1 + ord(letter) % 90 for letter in text]


OPENED = {"blip2": open_blip2, "coca": open_coca, "internvl": open_internvl}


@pytest.fixture(scope="module", params=OPENED)
def opened(request):
    return (*OPENED[request.param](), request.param)


@pytest.fixture(scope="module")
def pictures():
    return [scene(0), scene(1)]


def regions(model, boxes):
    """The objects of each picture."""
    return [[rasterise(Prompt.box(*box), SIZE, model.grid) for box in some] for some in boxes]


BOXES = [[(0, 0, 60, 50), (70, 40, 150, 118)], [(20, 20, 100, 100)]]


def pixels_of(name, pictures):
    from foir.encoders.base import preprocess
    from foir.encoders.clip import MEAN, STD

    mean, std = (internvl.MEAN, internvl.STD) if name == "internvl" else (MEAN, STD)
    return torch.stack([preprocess(picture, 56, mean, std) for picture in pictures])


def library(name, model, pixels):
    """The library's own picture vectors, [B, q, dim]."""
    with torch.inference_mode():
        if name == "blip2":
            ids = lookalikes.Letters(1)(TEXTS, padding=True, return_tensors="pt")
            return model(pixels, **ids).image_embeds
        if name == "coca":
            return model.encode_image(pixels)[:, None]
        return F.normalize(model.encode_image(pixels, mode="InternVL-G"), dim=-1)[:, None]


def test_untouched_it_is_the_librarys_own_forward(opened, pictures):
    model, ours, _, name = opened
    theirs = library(name, model, pixels_of(name, pictures))
    tokens = ours.encode_images(pictures)
    assert tokens.shape[1] == ours.first_patch + ours.grid[0] * ours.grid[1]
    assert torch.equal(ours.image_vectors(tokens), theirs)
    ours.image_vectors(tokens, ours.perturbation(tokens, regions(ours, BOXES), strength=4.0))
    assert torch.equal(library(name, model, pixels_of(name, pictures)), theirs)  # and it stays so


def test_words_are_the_librarys_own(opened):
    model, ours, _, name = opened
    made = ours.encode_texts(TEXTS)
    with torch.inference_mode():
        if name == "blip2":
            pixels = torch.zeros(2, 3, 56, 56)
            theirs = model(pixels, **lookalikes.Letters(1)(TEXTS, padding=True, return_tensors="pt")).text_embeds
        elif name == "coca":
            theirs = model.encode_text(CocaLetters()(TEXTS))
        else:
            read = lookalikes.Letters(0)([f"summarize:{text}" for text in TEXTS], padding=True, return_tensors="pt")
            theirs = F.normalize(model.encode_text(read["input_ids"]), dim=-1)
    np.testing.assert_allclose(made.vectors, theirs.numpy(), atol=1e-6)
    np.testing.assert_allclose(ours.encode_texts(TEXTS[:1]).vectors[0], made.vectors[0], atol=1e-5)
    assert "word pieces" in ours.encode_texts(["x" * 99]).notes[0]


def test_attached_without_effect_it_changes_nothing(opened, pictures):
    """With a share of one half, the weight 0.5 - S is 0: every projection is made and multiplied by nothing."""
    _, ours, _, _ = opened
    tokens = ours.encode_images(pictures)
    half = [[(0, 0, 160, 60)], [(80, 0, 160, 120)]]
    pull = ours.perturbation(tokens, regions(ours, half), strength=8.0, weight="0.5-S")
    torch.testing.assert_close(ours.image_vectors(tokens, pull), ours.image_vectors(tokens), rtol=1e-5, atol=1e-6)


def literal(site_keys, queries, heads, covers, theta, strength):
    """One picture's queries [n, h * D] after q' = q + sum of alpha P q, head by head, by SVD."""
    out = queries.copy()
    width = queries.shape[1] // heads
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        for cover in covers:
            _, values, directions = np.linalg.svd(site_keys[h][cover], full_matrices=False)
            share = np.cumsum(values**2) / (values**2).sum()
            basis = directions[: max(1, int((share <= theta).sum()))]
            out[:, part] += strength * queries[:, part] @ basis.T @ basis
    return out


def test_scores_are_those_of_a_slow_literal_implementation(opened, pictures):
    model, ours, sites, name = opened
    tokens = ours.encode_images(pictures)
    some = regions(ours, BOXES)
    pull = ours.perturbation(tokens, some, strength=3.0, theta=0.8)
    covers = [[np.flatnonzero(np.pad(region.patches.reshape(-1), (1, 0))) for region in picture] for picture in some]

    def changed(keys, heads):
        def hook(module, args, output):
            batch = output if output.dim() == 3 else output[None]
            done = [literal(keys[i].numpy(), batch[i].numpy(), heads, covers[i], 0.8, 3.0) for i in range(len(batch))]
            return torch.from_numpy(np.stack(done)).float()

        return hook

    keys = ours.attention_keys(tokens)
    handles = []
    for (site, query, heads), own in zip(sites, keys, strict=True):
        if query is not None:
            handles.append(query.register_forward_hook(changed(own, heads)))
            continue
        site.forward = slow_forward(name, site, changed(own, heads))
    try:
        theirs = library(name, model, pixels_of(name, pictures))
    finally:
        for handle in handles:
            handle.remove()
        for site, query, _ in sites:
            if query is None:
                del site.forward
    torch.testing.assert_close(ours.image_vectors(tokens, pull), theirs, rtol=1e-4, atol=1e-5)
    assert (theirs - ours.image_vectors(tokens)).abs().max() > 1e-3


def slow_forward(name, site, change):
    """The pooling attention written out, its queries changed."""

    def attend(q, k, v, heads):
        out = []
        for h in range(heads):
            part = slice(h * q.shape[-1] // heads, (h + 1) * q.shape[-1] // heads)
            scores = q[..., part] @ k[..., part].mT / (q.shape[-1] / heads) ** 0.5
            out.append(scores.softmax(-1) @ v[..., part])
        return torch.cat(out, -1)

    def of_coca(x):
        x, attention = site.ln_k(x), site.attn
        bias = attention.in_proj_bias.chunk(3)
        q = site.ln_q(site.query).expand(len(x), -1, -1) @ attention.q_proj_weight.T + bias[0]
        k, v = x @ attention.k_proj_weight.T + bias[1], x @ attention.v_proj_weight.T + bias[2]
        return attention.out_proj(attend(change(None, None, q), k, v, attention.num_heads))

    def of_internvl(x, k, v):
        q = x @ site.q.weight.T + site.q_bias
        k, v = k @ site.k.weight.T + site.k_bias, v @ site.v.weight.T + site.v_bias
        return site.proj(attend(change(None, None, q), k, v, site.num_heads))

    return of_coca if name == "coca" else of_internvl


def test_a_batch_is_its_pictures_alone_and_no_object_no_change(opened, pictures):
    _, ours, _, _ = opened
    tokens = ours.encode_images(pictures)
    pull = ours.perturbation(tokens, [*regions(ours, BOXES[:1]), []], strength=3.0)
    together = ours.image_vectors(tokens, pull)
    alone = ours.image_vectors(tokens[:1], ours.perturbation(tokens[:1], regions(ours, BOXES[:1]), strength=3.0))
    torch.testing.assert_close(together[:1], alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(together[1:], ours.image_vectors(tokens[1:]), rtol=1e-5, atol=1e-6)


def test_kept_subspaces_are_as_good_as_new(opened, pictures, tmp_path):
    from dataclasses import replace

    from safetensors.torch import load_file, save_file

    _, ours, _, _ = opened
    tokens = ours.encode_images(pictures)
    pull = ours.perturbation(tokens, regions(ours, BOXES), strength=3.0, weight="1-S")
    save_file(pull.to_tensors(), tmp_path / "kept.safetensors")
    kept = Perturbation.from_tensors(load_file(tmp_path / "kept.safetensors"))
    again = replace(kept, strength=3.0, weight="1-S")
    assert torch.equal(ours.image_vectors(tokens, again), ours.image_vectors(tokens, pull))


def test_blip2_scores_and_matches_as_the_library_does(pictures):
    model, ours, _ = open_blip2()
    assert ours.match is not None
    tokens, pixels = ours.encode_images(pictures), pixels_of("blip2", pictures)
    ids = lookalikes.Letters(1)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        contrast = model(pixels, **ids).logits_per_image
        matched = model(pixels, **ids, use_image_text_matching_head=True).logits_per_image
    scores = (ours.image_vectors(tokens) @ torch.from_numpy(ours.encode_texts(TEXTS).vectors).T).amax(1)
    torch.testing.assert_close(scores, contrast, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.match(tokens, TEXTS), matched[:, 1], rtol=1e-5, atol=1e-6)
    pull = ours.perturbation(tokens, regions(ours, BOXES), strength=4.0)
    rows = [1, 0, 1]
    pairs = ours.match(tokens[rows], ["a", "b", "c"], pull.take(torch.tensor(rows)))
    each = [
        ours.match(tokens[[row]], [text], pull.take(torch.tensor([row]))) for row, text in zip(rows, "abc", strict=True)
    ]
    torch.testing.assert_close(pairs, torch.cat(each), rtol=1e-4, atol=1e-5)
    assert (pairs - ours.match(tokens[rows], ["a", "b", "c"])).abs().max() > 1e-4


def test_blip2_writes_what_the_library_writes(pictures):
    from transformers import Blip2ForConditionalGeneration

    model = lookalikes.blip2(Blip2ForConditionalGeneration)
    ours = blip2.Blip2Captions("blip2-captions", "made", model, lookalikes.Letters(1))
    assert ours.caption is not None
    tokens = ours.encode_images(pictures)
    ids = model.generate(
        pixels_of("blip2", pictures), max_new_tokens=blip2.MAX_NEW_TOKENS, num_beams=blip2.BEAMS, do_sample=False
    )
    theirs = lookalikes.Letters().batch_decode(ids)
    assert [line.split()[:8] for line in ours.caption(tokens)] == [
        [word for word in line.split() if word not in ("96", "97")][:8] for line in theirs
    ]
    pull = ours.perturbation(tokens, regions(ours, BOXES), strength=30.0)
    assert ours.caption(tokens, pull) != ours.caption(tokens)
    with pytest.raises(Unavailable, match="reads no texts"):
        ours.encode_texts(TEXTS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_blip2_in_half_precision_beside_a_full_qformer(pictures, dtype):
    """As transformers loads it: the Q-Former and its queries stay in float32."""
    model, full, _ = open_blip2()
    tokens = full.encode_images(pictures)
    whole = full.image_vectors(tokens, full.perturbation(tokens, regions(full, BOXES), strength=2.0))
    model.to(dtype)
    model.qformer.float()
    model.query_tokens.data = model.query_tokens.data.float()
    half = blip2.Blip2Retrieval("blip2", "made", model, lookalikes.Letters(1))
    assert half.match is not None
    tokens = half.encode_images(pictures)
    assert tokens.dtype == dtype
    pulled = half.image_vectors(tokens, half.perturbation(tokens, regions(half, BOXES), strength=2.0))
    assert (pulled * whole).sum(-1).min() > 0.95
    assert np.isfinite(half.encode_texts(TEXTS).vectors).all() and half.match(tokens, TEXTS).isfinite().all()


def test_random_weights_read_no_texts():
    model, _, _ = open_blip2()
    silent = blip2.Blip2Images("blip2", "random", model, None)
    assert silent.match is None
    with pytest.raises(Unavailable, match="reads no texts"):
        silent.encode_texts(TEXTS)


def test_strengths_that_make_no_sense_are_refused(toy, photo, tmp_path):
    model = image_text.load("toy-words", device="cpu")
    photo.save(tmp_path / "photo.png")
    read = images.read(tmp_path / "photo.png")
    tokens = model.encode_images([read.image])
    for strength in (float("nan"), float("inf"), -1.0, 1e9):
        with pytest.raises(BadPrompt, match="strength"):
            model.caption_image(tokens, read, Prompt.point(5, 5), strength)
    with pytest.raises(BadPrompt, match="pointed at"):
        model.caption_image(tokens, read, None, 1.0)
    with pytest.raises(BadPrompt, match="Theta"):
        model.perturbation(tokens, [[]], theta=2.0)
    with pytest.raises(Unavailable, match="no dtype 'half'"):
        image_text.load("coca", dtype="half")


def test_coca_writes_the_likeliest_words(pictures, monkeypatch):
    monkeypatch.setattr(beam_search, "WIDTH", 1)
    monkeypatch.setattr(coca, "MAX_WORDS", 8)
    model, ours, _ = open_coca()
    assert ours.caption is not None
    tokens, pixels = ours.encode_images(pictures), pixels_of("coca", pictures)
    written = []
    for i in range(2):
        ids = [97]
        while len(ids) < 9 and ids[-1] != lookalikes.END:
            with torch.no_grad():
                logits = model(pixels[[i]], torch.tensor([ids]), output_labels=False)["logits"][0, -1].clone()
            logits[97] = -torch.inf
            ids.append(int(logits.argmax()))
        written.append(" ".join(str(i) for i in ids[1:] if i != lookalikes.END))
    assert ours.caption(tokens) == written
    pull = ours.perturbation(tokens, regions(ours, BOXES), strength=30.0)
    assert ours.caption(tokens, pull) != written


def test_coca_of_another_kind_is_refused():
    model = lookalikes.coca()
    model.visual.attn_pool = None
    with pytest.raises(Unavailable, match="attentional pooler"):
        coca.Coca(model, CocaLetters(), "made")


def test_code_of_strangers_needs_a_word(monkeypatch):
    monkeypatch.delenv("FOIR_REMOTE_CODE", raising=False)
    with pytest.raises(Unavailable, match="FOIR_REMOTE_CODE=1"):
        image_text.load("internvl-g", revision="0" * 40, device="cpu")
    monkeypatch.setenv("FOIR_REMOTE_CODE", "1")
    with pytest.raises(Unavailable, match="name the commit"):
        image_text.load("internvl-g", device="cpu")


@pytest.mark.parametrize("name", ["blip2", "blip2-captions", "coca"])
def test_absent_weights_are_one_sentence(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Unavailable, match="connect to the network"):
        image_text.load(name, device="cpu")


def test_a_view_shares_everything_but_what_it_replaces():
    model, _, _ = open_internvl()
    other = torch.nn.Identity()
    seen = replace_modules(model, {"qllama.model.layers.1.mlp.1": other, "clip_projector2": other})
    assert seen.qllama.model.layers[1].mlp[1] is other and seen.clip_projector2 is other
    assert seen.qllama.model.layers[0] is model.qllama.model.layers[0]
    assert model.qllama.model.layers[1].mlp[1] is not other and model.clip_projector2 is not other


def test_a_caption_leans_towards_what_is_pointed_at(toy, photo, tmp_path):
    model = image_text.load("toy-words", device="cpu")
    photo.save(tmp_path / "photo.png")
    read = images.read(tmp_path / "photo.png")
    tokens = model.encode_images([read.image])
    assert model.caption_image(tokens, read) == "picture of 1"
    assert model.caption_image(tokens, read, Prompt.point(5, 5), 2.5) == "picture of 1, 1 pulled by 2.5"
    silent = clip.EncoderModel(toy)
    with pytest.raises(Unavailable, match="writes no captions"):
        silent.caption_image(tokens, read)
    with pytest.raises(Unavailable, match="reads no texts"):
        silent.encode_texts(["a dog"])

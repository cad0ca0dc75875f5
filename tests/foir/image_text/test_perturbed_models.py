"""Query perturbation in each model: the library's own forward without it, a slow literal one with it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from foir.perturbation.query_perturbation import Perturbation
from tests import lookalikes
from tests.foir.image_text.internvl_repository import NEEDS_PUBLIC
from tests.foir.image_text.opened import (
    BOXES,
    TEXTS,
    CocaLetters,
    open_blip2,
    open_coca,
    open_internvl,
    open_public_internvl,
    pixels_of,
    regions,
)

OPENED = {
    "blip2": (open_blip2, "blip2"),
    "coca": (open_coca, "coca"),
    "internvl": (open_internvl, "internvl"),
    "internvl-public": (open_public_internvl, "internvl"),
}
NEEDS = {"internvl-public": [NEEDS_PUBLIC]}


@pytest.fixture(scope="module", params=[pytest.param(name, marks=NEEDS.get(name, [])) for name in OPENED])
def opened(request):
    open_model, name = OPENED[request.param]
    return (*open_model(), name)


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

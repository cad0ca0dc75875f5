"""Which dtype "auto" means, and what stays in float32 whatever it is."""

import numpy as np
import pytest
import torch

from foir import encoders
from foir.encoders import devices
from foir.errors import Unavailable
from foir.methods import intervene
from foir.patches import rasterise
from foir.prompts import Prompt
from foir.ranking import head_cache
from foir.ranking.shortlist import Shortlist
from foir.regions.encoder import RegionEncoder
from foir.regions.recipe import RegionRecipe
from tests.conftest import scene
from tests.foir.ranking.test_shortlist import GATES, made_space

HALVES = ("bfloat16", "float16")


@pytest.fixture
def machine(monkeypatch):
    """A machine of its own: `machine(bfloat16=, faster=)`."""
    monkeypatch.delenv("FOIR_DTYPE")
    devices._bfloat16_is_faster.cache_clear()

    def set_up(*, has_it=True, times=(5.0, 1.0)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_it)
        clock = iter(np.cumsum([x for each in times for _ in range(6) for x in (1.0, each)]))
        monkeypatch.setattr("foir.encoders.devices.time.perf_counter", lambda: next(clock))

    yield set_up
    devices._bfloat16_is_faster.cache_clear()


@pytest.mark.parametrize(
    "has_it, times, expected",
    [
        (True, (5.0, 1.0), "bfloat16"),
        (True, (1.1, 1.0), "float32"),  # not worth the rounding
        (True, (1.0, 5.0), "float32"),
        (False, (5.0, 1.0), "float32"),
    ],
)
def test_a_cpu_computes_in_what_is_faster_there(machine, has_it, times, expected):
    machine(has_it=has_it, times=times)
    assert encoders.resolve_dtype("auto", "cpu") == expected
    assert encoders.resolve_dtype("float16", "cpu") == "float16"  # asked for


@pytest.mark.parametrize("has_it, expected", [(True, "bfloat16"), (False, "float16")])
def test_a_gpu_computes_in_half_precision(monkeypatch, has_it, expected):
    monkeypatch.delenv("FOIR_DTYPE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_it)
    assert encoders.resolve_dtype("auto", "cuda:0") == encoders.resolve_dtype("auto", "auto") == expected


def test_the_environment_says_what_auto_means(monkeypatch):
    monkeypatch.setenv("FOIR_DTYPE", "float16")
    assert encoders.resolve_dtype("auto", "cpu") == "float16"
    assert encoders.resolve_dtype("float32", "cpu") == "float32"
    monkeypatch.setenv("FOIR_DTYPE", "")  # as a Space has a setting that was emptied
    assert encoders.resolve_dtype("auto", "cpu") in ("float32", "bfloat16")
    monkeypatch.setenv("FOIR_DTYPE", "int8")
    with pytest.raises(
        Unavailable,
        match=r"^There is no dtype 'int8' \(--dtype, FOIR_DTYPE\); use auto or one of float32, bfloat16, float16\.$",
    ):
        encoders.load("toy", device="cpu", dtype="auto")


@pytest.mark.parametrize("name", ["toy", "mini"])
@pytest.mark.parametrize("dtype", HALVES)
def test_what_follows_the_last_block_is_in_float32(name, dtype):
    encoder = encoders.load(name, device="cpu", dtype=dtype)
    parts = [part for part in encoder.pooling if isinstance(part, torch.nn.Module)]
    whole = [part for part in encoders.load(name, device="cpu").pooling if isinstance(part, torch.nn.Module)]
    for ours, theirs in zip(parts, whole, strict=True):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert one.dtype == torch.float32 and torch.equal(one, other)  # never rounded
    assert parts
    tokens = encoder.prefix(encoder.pixels([scene(0)])).block.tokens
    assert tokens.dtype == encoder.dtype == getattr(torch, dtype)
    assert encoder.normed(tokens).dtype == encoder.raw_feature(tokens).dtype == torch.float32


@pytest.mark.parametrize("dtype", HALVES)
def test_mini_means_the_same_in_half_precision(dtype):
    """The bounds that `docs/methods.md` promises; a float32 page searches an index that was built in bfloat16."""
    image, prompt = scene(0), Prompt.box(30, 30, 110, 100)
    found = []
    for each in ("float32", dtype):
        encoder = encoders.load("mini", device="cpu", dtype=each)
        mask, prefix = rasterise(prompt, image.size, encoder.grid), encoder.prefix(encoder.pixels([image]))
        steps = [intervene(method, prompt, mask) for method in ("cbir", "attention_mask|phs", "foveal")]
        regions = RegionEncoder(encoder, RegionRecipe(limit=256))
        found.append(
            [
                encoder.features(image, steps, prefix).vectors.numpy(),
                regions.encode(prefix)[0].vectors,
                regions.encode_query(image, prefix, mask),
                encoder.reference_feature()[None],
            ]
        )
    assert min((one * other).sum(-1).min() for one, other in zip(*found, strict=True)) > 0.9995


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("gate", GATES)
def test_query_db_and_its_shortlist_work_in_every_dtype(toy, dtype, gate):
    half, space = encoders.load("toy", device="cpu", dtype=dtype), made_space(toy)
    exact, rounded = (np.concatenate(list(head_cache.features(each, space, gate))) for each in (toy, half))
    assert (exact * rounded).sum(1).min() > 0.999
    top = Shortlist(half, space).search(gate, exact[5], 10, count=100)
    wanted = head_cache.search(toy, space, [gate], exact[5:6], 10)
    assert top.rows[0, 0] == wanted.rows[0, 0] == 5
    assert len(set(top.rows[0]) & set(wanted.rows[0])) >= 8

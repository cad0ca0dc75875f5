"""Query perturbation: the invariants of its specification, and equality with a slow literal reading."""

import numpy as np
import pytest
import torch

from foir import BadPrompt
from foir.perturbation.query_perturbation import MODES, WEIGHTS, Objects, key_subspaces, perturb_queries

B, H, T, D, N = 3, 2, 26, 8, 5


@pytest.fixture
def made():
    """Keys and queries of three pictures; two objects on the first, one on the third; token 0 is CLS."""
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(B, H, T, D, generator=generator) @ torch.diag(torch.tensor([9.0, 5, 3, 2, 1, 0.5, 0.2, 0.1]))
    queries = torch.randn(B, H, N, D, generator=generator)
    coverage = torch.zeros(3, T)
    coverage[0, 3:9], coverage[1, 7:20], coverage[2, 1:] = 1, 0.25, 1
    coverage[0, 8] = 0.5
    objects = Objects(torch.tensor([0, 0, 2]), coverage, torch.tensor([0.2, 0.4, 1.0]))
    return keys, queries, objects


def projectors(bases):
    return bases @ bases.transpose(-1, -2)


@pytest.mark.parametrize("theta", [0.3, 0.85, 0.99])
def test_projectors_are_those_of_the_singular_vectors(made, theta):
    keys, _, objects = made
    found = projectors(key_subspaces(keys, objects, theta))
    torch.testing.assert_close(found, found.transpose(-1, -2))
    torch.testing.assert_close(found @ found, found, atol=1e-5, rtol=0)
    for m in range(3):
        for h in range(H):
            own = keys[objects.images[m], h][objects.coverage[m] > 0].numpy()
            _, values, directions = np.linalg.svd(own, full_matrices=False)
            share = np.cumsum(values**2) / (values**2).sum()
            p = max(1, int((share <= theta).sum()))
            np.testing.assert_allclose(found[m, h], directions[:p].T @ directions[:p], atol=1e-4)
            assert float(found[m, h].trace()) == pytest.approx(p, abs=1e-4)


def literal(keys, queries, objects, theta, strength, weight):
    """One number after the other, as the paper says it, in float64."""
    out = queries.numpy().astype(np.float64).copy()
    for picture in range(B):
        on = [m for m in range(len(objects.shares)) if objects.images[m] == picture]
        for h in range(H):
            change = np.zeros((N, D))
            for m in on:
                projector = own_projector(keys, objects, m, h, theta)
                area = float(objects.shares[m])
                g = {"1": 1.0, "S": area, "1-S": 1 - area, "S-0.5": area - 0.5, "0.5-S": 0.5 - area}[weight]
                for n in range(N):
                    change[n] += strength * g * (projector @ out[picture, h, n])
            out[picture, h] += change
    return out


def own_projector(keys, objects, m, h, theta):
    """P of object m in head h, float64 [D, D]."""
    covered = (objects.coverage[m].numpy() > 0).astype(float)
    own = keys[objects.images[m], h].numpy().astype(np.float64) * covered[:, None]
    values, vectors = np.linalg.eigh(own.T @ own)
    values, vectors = values[::-1], vectors[:, ::-1]
    p = max(1, int((np.cumsum(values) / values.sum() <= theta).sum()))
    return vectors[:, :p] @ vectors[:, :p].T


@pytest.mark.parametrize("weight", WEIGHTS)
def test_it_is_what_the_paper_says(made, weight):
    keys, queries, objects = made
    got = perturb_queries(queries, key_subspaces(keys, objects, 0.9), objects, 4.0, weight)
    np.testing.assert_allclose(got, literal(keys, queries, objects, 0.9, 4.0, weight), atol=2e-4)


@pytest.mark.parametrize(("strength", "weight"), [(1.0, "1"), (8.0, "S"), (0.2, "0.5-S")])
def test_orthogonal_is_the_query_outside_the_subspace(made, strength, weight):
    """ "The projected query into an orthogonal complement of K-subspace instead of our perturbed query": no alpha."""
    keys, queries, objects = made
    bases = key_subspaces(keys, objects, 0.9, "orthogonal")
    got = perturb_queries(queries, bases, objects, strength, weight, "orthogonal").numpy()
    expected = queries.numpy().astype(np.float64)
    outside = np.eye(D) - [[own_projector(keys, objects, m, h, 0.9) for h in range(H)] for m in range(3)]
    expected[2] = np.einsum("hij,hnj->hni", outside[2], expected[2])  # its only object
    expected[0] = np.einsum("hij,hnj->hni", (outside[0] + outside[1]) / 2, expected[0])
    np.testing.assert_allclose(got, expected, atol=1e-5)
    inside = torch.from_numpy(got[2]) @ bases[2]
    assert inside.abs().max() < 1e-4  # nothing of the query is left in the object's subspace


def test_only_the_mode_that_depends_on_signs_says_so():
    assert [name for name, mode in MODES.items() if "signs of eigenvectors" in mode.note] == ["legacy"]
    assert all(variant.note for variant in MODES.values() if variant.rows)


def test_legacy_depends_on_the_signs_of_eigenvectors(made, monkeypatch):
    """Each sign of an eigenvector is as right as the other; what the paper's mode projects on does not change."""
    keys, _, objects = made
    before = {mode: projectors(key_subspaces(keys, objects, 0.9, mode)) for mode in ("paper", "legacy")}
    eigh = torch.linalg.eigh
    signs = torch.tensor([1.0, -1, 1, 1, -1, -1, 1, -1])
    monkeypatch.setattr(torch.linalg, "eigh", lambda gram: (eigh(gram)[0], eigh(gram)[1] * signs))
    after = {mode: projectors(key_subspaces(keys, objects, 0.9, mode)) for mode in ("paper", "legacy")}
    torch.testing.assert_close(after["paper"], before["paper"], atol=1e-5, rtol=0)
    assert (after["legacy"] - before["legacy"]).abs().max() > 0.1


def test_legacy_loses_the_keys_subspace(made):
    """Rows of an eigenvector matrix depend on signs that nothing fixes, so what is compared is what they keep."""
    keys, _, objects = made
    whole = Objects(objects.images[2:], objects.coverage[2:], objects.shares[2:])
    generator = torch.Generator().manual_seed(1)
    keys = keys @ torch.linalg.qr(torch.randn(D, D, generator=generator)).Q  # no direction is a coordinate
    own = keys[2, :, 1:]
    kept = {
        mode: float(((own @ projectors(key_subspaces(keys, whole, 0.9, mode))[0]) ** 2).sum() / (own**2).sum())
        for mode in ("paper", "legacy")
    }
    assert kept["paper"] > 0.7 > 0.5 > kept["legacy"]


def test_legacy_averages_objects_and_weighs_them_by_minus_their_area(made):
    keys, queries, objects = made
    bases = key_subspaces(keys, objects, 0.9, "legacy")
    got = perturb_queries(queries, bases, objects, 2.0, "1-S", "legacy") - queries
    inside = queries[objects.images] @ projectors(bases)
    torch.testing.assert_close(got[0], 2.0 * (-0.2 * inside[0] - 0.4 * inside[1]) / 2, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got[2], -2.0 * inside[2], atol=1e-4, rtol=1e-4)


def test_strength_zero_and_pictures_without_objects_change_nothing(made):
    keys, queries, objects = made
    bases = key_subspaces(keys, objects, 0.9)
    assert torch.equal(perturb_queries(queries, bases, objects, 0.0), queries)
    assert torch.equal(perturb_queries(queries, bases, objects, 4.0)[1], queries[1])
    none = Objects(torch.zeros(0, dtype=torch.long), torch.zeros(0, T), torch.zeros(0))
    assert torch.equal(perturb_queries(queries, key_subspaces(keys, none, 0.9), none, 4.0), queries)


def test_one_object_twice_averaged_is_the_object_once(made):
    keys, queries, objects = made
    one = Objects(objects.images[:1], objects.coverage[:1], objects.shares[:1])
    two = Objects(*(torch.cat([part, part]) for part in (one.images, one.coverage, one.shares)))
    got = [perturb_queries(queries, key_subspaces(keys, o, 0.9, "legacy"), o, 2.0, "S", "legacy") for o in (one, two)]
    torch.testing.assert_close(*got)


def test_queries_across_the_keys_stay(made):
    keys, queries, objects = made
    flat = keys.clone()
    flat[..., 4:] = 0
    across = queries.clone()
    across[..., :4] = 0
    torch.testing.assert_close(perturb_queries(across, key_subspaces(flat, objects, 0.999), objects, 5.0), across)


def test_everything_with_theta_near_one_scales_the_query(made):
    keys, queries, objects = made
    whole = Objects(objects.images[2:], objects.coverage[2:], objects.shares[2:])
    got = perturb_queries(queries, key_subspaces(keys, whole, 1.0), whole, 3.0)
    torch.testing.assert_close(got[2], 4 * queries[2], atol=1e-3, rtol=1e-3)


def test_a_batch_is_its_pictures_alone(made):
    keys, queries, objects = made
    together = perturb_queries(queries, key_subspaces(keys, objects, 0.9), objects, 4.0, "S")
    for picture in range(B):
        mine = objects.images == picture
        alone = Objects(torch.zeros(int(mine.sum()), dtype=torch.long), objects.coverage[mine], objects.shares[mine])
        part = keys[picture : picture + 1]
        got = perturb_queries(queries[picture : picture + 1], key_subspaces(part, alone, 0.9), alone, 4.0, "S")
        torch.testing.assert_close(got[0], together[picture], atol=1e-5, rtol=1e-5)


def test_an_object_without_keys_pulls_at_nothing(made):
    keys, queries, objects = made
    empty = Objects(objects.images, torch.zeros_like(objects.coverage), objects.shares)
    torch.testing.assert_close(perturb_queries(queries, key_subspaces(keys, empty, 0.9), empty, 4.0), queries)


def test_half_precision_queries_stay_half(made):
    keys, queries, objects = made
    half = perturb_queries(queries.half(), key_subspaces(keys.half(), objects, 0.9), objects, 4.0)
    assert half.dtype == torch.float16
    torch.testing.assert_close(
        half.float(), perturb_queries(queries, key_subspaces(keys, objects, 0.9), objects, 4.0), atol=0.1, rtol=0.02
    )


def test_unknown_names_are_one_sentence(made):
    keys, queries, objects = made
    with pytest.raises(BadPrompt, match="Unknown weight 'log'"):
        perturb_queries(queries, key_subspaces(keys, objects, 0.9), objects, 1.0, "log")
    with pytest.raises(BadPrompt, match="Unknown mode"):
        key_subspaces(keys, objects, 0.9, "mine")

"""Mutated manifests, signed again: each index is refused in a sentence, or opens and can be searched.

See tests/fuzz/__init__.py for a longer run.
"""

import copy
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foir.errors import FoirError
from foir.index import Index
from foir.index.format import MANIFEST
from foir.index.manifest import manifest_digest
from tests.foir.index.hostile import make_valid
from tests.foir.index.hostile.use import STEPS, fault
from tests.fuzz import examples

texts = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(
    ["\0", "\ud800", "/", "..", "x" * 5000, "0" * 64]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from([10**400, 2**63, -1, 1, 2])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


@st.composite
def mutation(draw):
    """A change of a manifest: some values replaced, removed, moved to another place or put twice."""
    return draw(
        st.lists(
            st.tuples(st.sampled_from(["put", "drop", "move", "add"]), st.randoms(), values), min_size=1, max_size=3
        )
    )


def mutate(manifest, changes):
    for kind, random, value in changes:
        at = manifest
        while True:
            key = random.choice(sorted(at) if isinstance(at, dict) else range(len(at)))
            inside = at[key]
            if not (isinstance(inside, dict | list) and inside) or random.random() < 0.3:
                break
            at = inside
        if kind == "drop":
            del at[key]
        elif kind == "move":
            manifest[random.choice(sorted(manifest))] = copy.deepcopy(inside)
        elif kind == "add" and isinstance(at, dict):
            at[json.dumps(value)[:40]] = copy.deepcopy(inside)
        else:
            at[key] = value
        if not manifest:
            return


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A copy, which this machine did not write."""
    base = tmp_path_factory.mktemp("fuzz")
    return Path(shutil.copytree(make_valid(base / "own"), base / "index"))


def test_every_mutated_manifest_is_refused_in_a_sentence_or_opens(index):
    valid = json.loads((index / MANIFEST).read_text())

    @examples(200)
    @given(mutation())
    def refused_or_open(changes):
        manifest = copy.deepcopy(valid)
        mutate(manifest, changes)
        manifest["digest"] = manifest_digest(manifest)
        (index / MANIFEST).write_text(json.dumps(manifest))
        try:
            opened = Index.open(index)
        except FoirError as error:
            assert not fault(error)
            return
        for step in STEPS:
            step(opened)

    refused_or_open()

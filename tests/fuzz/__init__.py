"""Fuzz targets: what a stranger sends is answered or refused in a sentence, whatever it is.

The suite tries the same few hundred examples each time. FOIR_FUZZ_EXAMPLES=20000 tries so many random ones of each.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_BY_HAND = os.environ.get("FOIR_FUZZ_EXAMPLES", "")


def examples(count: int) -> settings:
    """Settings of a target that tries `count` examples in the suite."""
    return settings(
        max_examples=int(_BY_HAND or count),
        derandomize=not _BY_HAND,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


texts = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(["\0", "\ud800", "é\n", "9" * 5000, "[::1"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)

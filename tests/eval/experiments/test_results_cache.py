"""Cached arrays are computed once, and again when damaged."""

import numpy as np

from eval.experiments.results_cache import ResultsCache


def test_a_damaged_kept_file_is_made_again(tmp_path):
    store, made = ResultsCache(tmp_path), []

    def make():
        made.append(1)
        return {"a": np.arange(3)}

    store.get(["x"], make)
    (file,) = tmp_path.iterdir()
    for data in (file.read_bytes()[:-20], b"", b"nothing"):
        file.write_bytes(data)
        assert store.get(["x"], make)["a"].tolist() == [0, 1, 2]
    assert store.get(["x"], make)["a"].tolist() == [0, 1, 2] and len(made) == 4

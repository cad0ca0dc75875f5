"""The benchmark of regions."""

import numpy as np

from eval.benchmarks import regions
from foir.index import Index
from foir.ranking.regions import best_scores


def test_the_regions_bench_builds_and_searches_both_kinds_and_scans_real_vectors(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(regions, "QUERIES", 2)
    monkeypatch.setattr(regions, "SHARD", 4)
    lines = regions.build_and_query(toy, tmp_path, 3, 1)
    stored = [int(line.split("|")[3]) for line in lines if line.startswith(("| with |", "| without |"))]
    index = Index.open(tmp_path / "with")
    assert index.regions is not None and Index.open(tmp_path / "without").regions is None
    sizes = [len(shard) for shard in index.regions.vectors]
    assert stored[0] - stored[1] > sum(sizes) / 3 * (2 * 48 + 8)
    many = regions.repeated(index.regions, 10, tmp_path)
    assert [len(starts) - 1 for starts in many.starts] == [4, 4, 2]
    counts, known = (np.concatenate([np.diff(starts) for starts in each.starts]) for each in (many, index.regions))
    assert counts.tolist() == np.tile(known, 4)[:10].tolist()
    own = np.asarray(index.regions.vectors[0][:1], np.float32)
    best = best_scores(many, own)
    assert best.shape == (10,) and best[[0, 3, 6, 9]].min() > best.mean()  # copies of the first picture
    assert "10 pictures" in regions.scan(many, 10)[0]
    (line,) = regions.search_graph(many, tmp_path)
    assert float(line.split("It finds ")[1].split()[0]) > 0.9

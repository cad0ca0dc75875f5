"""Encoding in this process: batches do not depend on unreadable images."""

import pytest

from index_build import executor, local_executor, pipeline
from index_build.pipeline import Plan, build
from tests.conftest import draw


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(pipeline, "SHARD_SIZE", 8)
    monkeypatch.setattr(executor, "BATCH_SIZE", 3)


@pytest.fixture
def pictures(tmp_path):
    folder = draw(tmp_path / "pictures", 26)
    for number in (4, 9, 10, 11):
        (folder / f"{number:02}.png").write_bytes(b"no picture")
    return folder


def test_an_index_is_the_same_whoever_gets_the_batches(small, pictures, tmp_path, monkeypatch):
    """Pictures that cannot be read keep their place in a batch, so it does not depend on them."""
    seen = []
    real = executor.encode_batch

    def counted(group, encoders):
        seen.append(len(group))
        return real(group, encoders)

    monkeypatch.setattr(local_executor, "encode_batch", counted)
    build(Plan(pictures, tmp_path / "index", "toy", device="cpu"))
    assert seen == [3, 3, 2, 3, 3, 2, 3, 3, 2, 2]

"""Choosing a source by its address."""

from foir import Index
from index_build.cli import main
from tests.conftest import draw


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(tmp_path):
    folder = draw(tmp_path / "[2020] *.parquet", 2)
    assert main(["build", str(folder), "--out", str(tmp_path / "index"), "--encoder", "toy"]) == 0
    assert len(Index.open(tmp_path / "index")) == 2

"""INSTRE in miniature: only small objects count."""

import pytest

from eval import datasets
from eval.datasets.base import InstanceDataset
from foir import Unavailable
from tests.conftest import scene


def write_instre(root, subset="INSTRE-S1"):
    kind = root / "INSTRE" / subset / "01a_mug"
    kind.mkdir(parents=True)
    for number, side in enumerate((10, 12, 35, 30, 60, 8)):  # of 100 x 100: 1, 1.4, 12, 9, 36 and 0.6 %
        scene(number, (100, 100)).save(kind / f"{number:03}.jpg")
        (kind / f"{number:03}.txt").write_text(f"5 6 {side} {side}\n")
    scene(9).save(kind / "999.jpg")  # nothing is known of it
    for number, text in enumerate(("900 6 5 5", "nan 6 5 5", "5 6 0 5", "5 6", "")):
        scene(number, (100, 100)).save(kind / f"99{number}.jpg")
        (kind / f"99{number}.txt").write_text(text)


def test_another_box_is_another_data_set(root):
    """Vectors of crops are cached under the digest."""
    write_instre(root)
    before = datasets.load("instre-xs", InstanceDataset).digest
    (root / "INSTRE" / "INSTRE-S1" / "01a_mug" / "000.txt").write_text("60 70 10 10")
    assert datasets.load("instre-xs", InstanceDataset).digest != before


def test_instre_keeps_what_is_small(root):
    write_instre(root)
    kind = root / "INSTRE" / "INSTRE-S1" / "01a_mug"
    wider = datasets.load("instre-xs", InstanceDataset)
    assert (len(wider.scenes), len(wider.queries)) == (3, 2)
    smallest = datasets.load("instre-xxs", InstanceDataset)
    assert (len(smallest.scenes), len(smallest.queries)) == (2, 1)
    assert smallest.scenes[0].objects()[0].box == (5, 6, 15, 16)
    assert smallest.queries[0].load().size == (12, 12)
    assert list(wider.oddities.values()) == [6]
    (kind / "999.jpg").write_bytes(b"no picture")
    with pytest.raises(Unavailable, match=r"999\.jpg is damaged"):
        datasets.load("instre-xs", InstanceDataset)

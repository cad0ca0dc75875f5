"""A stage that was killed goes on as if it had not been."""

from typing import Any

import pytest
import torch

from foir import Unavailable
from foir.mini.training.ema_optimizer import EmaOptimizer
from foir.mini.training.stage import run_stage


def training():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))

    def loss(step):
        torch.manual_seed(step)
        x = torch.randn(16, 4)
        found = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
        return found, {"square": float(found.detach())}

    groups = [{"params": list(model.parameters()), "lr": 1e-2}]
    return model, EmaOptimizer(groups, 30, weight_decay=0.01, max_norm=1.0, ema_decay=0.9), loss


def test_a_resumed_stage_ends_with_the_weights_of_an_unbroken_one(tmp_path, capsys):
    whole, optimizer, loss = training()
    first = loss(0)[0].item()
    assert run_stage(optimizer, loss, 30, tmp_path / "whole.pt", "toy")
    assert "step 20/30: square " in capsys.readouterr().out
    broken, optimizer, loss = training()
    assert not run_stage(optimizer, loss, 30, tmp_path / "broken.pt", "toy", stop_after=13)
    resumed, optimizer, loss = training()
    with torch.no_grad():
        resumed[0].weight.zero_()  # all comes from the checkpoint
    assert run_stage(optimizer, loss, 30, tmp_path / "broken.pt", "toy", seconds=0)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert loss(0)[0].item() < first
    finished, optimizer, _ = training()
    nothing: Any = None
    assert run_stage(optimizer, nothing, 30, tmp_path / "broken.pt", "toy")  # nothing is left to do
    assert torch.equal(finished[0].weight, whole[0].weight)


@pytest.mark.parametrize("damage", ["another", "cut", "empty"])
def test_a_checkpoint_of_another_stage_or_a_damaged_one_is_one_sentence(damage, tmp_path):
    _, optimizer, loss = training()
    file = tmp_path / "it.pt"
    run_stage(optimizer, loss, 30, file, "toy", stop_after=2)
    if damage != "another":
        file.write_bytes(file.read_bytes()[:2000] if damage == "cut" else b"")
    with pytest.raises(Unavailable, match="delete it"):
        run_stage(optimizer, loss, 30, file, "toy" if damage != "another" else "more")

"""Stage A of MaO: the loss, the trained parameters, and the adapter's file."""

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from foir import Unavailable, encoders
from foir.encoders import openclip
from foir.small_objects import finetune, training_data
from foir.small_objects.crops import DetectedObject, crop_objects
from foir.small_objects.embed import embed_images
from foir.small_objects.mao import mean_vector
from tests.conftest import scene
from tests.foir.encoders.test_encoders import small_openclip


@pytest.fixture
def toy():
    """One of its own: it is changed in place."""
    return encoders.load("toy", device="cpu")


def lesson(number):
    box = (20.0, 20.0, 90.0, 90.0)
    things = (DetectedObject(box), DetectedObject((100, 30, 150, 100)))
    return training_data.TrainingScene(scene(number), things, scene(number).crop((20, 20, 90, 90)))


def test_the_loss_is_infonce_in_both_directions():
    torch.manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(3, 5), dim=-1) for _ in range(2))
    terms = []
    for i in range(3):
        for rows in ([float(a[i] @ b[j]) for j in range(3)], [float(a[j] @ b[i]) for j in range(3)]):
            exps = np.exp(np.array(rows) / finetune.TEMPERATURE)
            terms.append(-np.log(exps[i] / exps.sum()))
    assert float(finetune.info_nce(a, b)) == pytest.approx(np.mean(terms), rel=1e-5)


def test_fresh_updates_change_nothing_and_gradients_reach_nothing_else(toy):
    images = [scene(0), scene(1)]
    before = embed_images(toy, images)
    finetune.inject_lora(toy, 4)
    toy.module.eval()
    torch.testing.assert_close(embed_images(toy, images), before)
    trained = {name for name, parameter in toy.module.named_parameters() if parameter.requires_grad}
    assert len(trained) == 4 * 3 * 2 and all("lora" in name for name in trained)
    torch.testing.assert_close(finetune._features(toy, images).detach(), before, rtol=1e-4, atol=1e-5)


def test_a_few_pictures_at_a_time_give_the_gradients_of_all_at_once(toy, monkeypatch):
    some = [lesson(number) for number in range(3)]
    finetune.inject_lora(toy, 4)
    toy.module.eval()
    parameters = [parameter for parameter in toy.module.parameters() if parameter.requires_grad]
    torch.manual_seed(0)
    for parameter in parameters:
        parameter.data = torch.randn_like(parameter) * 0.1
    found = []
    for size in (100, 2):
        monkeypatch.setattr(finetune, "CHUNK", size)
        loss = finetune._backward(toy, some, 0)
        found.append((loss, [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]))
        for parameter in parameters:
            parameter.grad = None
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5) and len(found[0][1]) == len(parameters)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    images = [crop.image for one in some for crop in crop_objects(one.image, one.objects, toy.size)]
    vectors = finetune._features(toy, [*images, *(one.query for one in some)])
    means = mean_vector(vectors[:6], torch.tensor([0, 0, 1, 1, 2, 2]))
    slow = finetune.info_nce(means, vectors[6:])
    expected = torch.autograd.grad(slow, parameters)
    assert float(slow.detach()) == pytest.approx(found[0][0], rel=1e-4)
    for a, b in zip(found[0][1], expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_it_learns_and_its_file_brings_it_back(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "LEARNING_RATE", 3e-3)
    losses = finetune.train(toy, lambda number: lesson(number % 6), 60, batch=6, rank=4)
    assert len(losses) == 10 and np.mean(losses[-2:]) < 0.8 * losses[0]
    path = tmp_path / "adapter.safetensors"
    finetune.save_adapter(toy, path, {"rank": 4})
    fresh = encoders.load("toy", device="cpu")
    made = finetune.load_adapter(fresh, path)
    assert made.revision.startswith(fresh.revision + "+")
    torch.testing.assert_close(embed_images(made, [scene(3)]), embed_images(toy, [scene(3)]), rtol=1e-4, atol=1e-5)
    assert not any("lora" in name for name, _ in made.module.named_parameters())


def test_a_file_for_another_encoder_or_of_junk_is_refused(toy, tmp_path):
    finetune.inject_lora(toy, 4)
    path = tmp_path / "adapter.safetensors"
    finetune.save_adapter(toy, path, {"rank": 4})
    with pytest.raises(Unavailable, match="not this dinov2-small"):
        finetune.load_adapter(encoders.load("dinov2-small", device="cpu", pretrained=False), path)
    path.write_bytes(b"junk")
    with pytest.raises(Unavailable, match="no adapter"):
        finetune.load_adapter(encoders.load("toy", device="cpu"), path)


def test_an_adapter_without_some_updates_is_refused_and_names_them(toy, tmp_path):
    finetune.inject_lora(toy, 4)
    path = tmp_path / "adapter.safetensors"
    finetune.save_adapter(toy, path, {"rank": 4})
    with safe_open(path, "pt") as file:
        tensors, header = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    gone = max(tensors)
    del tensors[gone]
    save_file(tensors, path, header)
    with pytest.raises(Unavailable, match=f"missing: {gone}"):
        finetune.load_adapter(encoders.load("toy", device="cpu"), path)


def test_projections_in_one_matrix_are_refused():
    encoder = openclip.wrap(small_openclip(), "t", "r", projected=True)
    with pytest.raises(Unavailable, match="one matrix"):
        finetune.inject_lora(encoder, 4)


def test_the_command_trains_mini_on_composed_scenes(tmp_path, capsys):
    out = tmp_path / "adapter.safetensors"
    args = ["--encoder", "mini", "--scenes", "2", "--batch", "2", "--rank", "2", "--out", str(out), "--device", "cpu"]
    assert finetune.main(args) == 0, capsys.readouterr().err
    made = finetune.load_adapter(encoders.load("mini", device="cpu"), out)
    assert "+" in made.revision
    assert finetune.main(["--out", str(tmp_path)]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert finetune.main(["--data", "voxdet", "--out", str(tmp_path / "new" / "a.safetensors")]) == 1
    assert "OWID" in capsys.readouterr().err

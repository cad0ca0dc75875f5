"""The benchmark of costs."""

import pytest

from eval.benchmarks import cost
from foir import encoders


def test_the_cost_bench_counts_what_each_method_runs(toy):
    picture, masked, made, rate = cost.counted(toy, ["mask"])
    assert masked == picture > 0 and rate > 0 and made.z.shape[0] == 1
    _, plain, _, _ = cost.counted(toy, ["cbir"])
    _, both, _, _ = cost.counted(toy, ["mask", "phs"])
    assert plain < picture / 4
    assert picture < both < 1.25 * picture


@pytest.mark.parametrize("name", ["toy", "dinov2-small-reg"])
def test_a_model_without_data_costs_what_one_with_data_costs(name):
    encoder = encoders.load(name, device="cpu", pretrained=False)
    image, _, features, _ = cost.counted(encoder, ["cbir"])
    shape = cost.model_shape(name)
    assert shape.operations == image
    assert shape.parameters == sum(parameter.numel() for parameter in encoder.module.parameters())
    assert shape.cached == sum(t.numel() for t in (features.vectors, features.z, features.residual))


def test_models_of_images_and_texts_are_counted_too():
    assert 1.1e9 < cost.model_shape("blip2").parameters < 1.3e9 and cost.model_shape("blip2").operations > 1e12
    assert 6e8 < cost.model_shape("coca").parameters < 7e8
    assert cost.model_shape("internvl-g") == cost.ModelShape(parameters=14_000_000_000)

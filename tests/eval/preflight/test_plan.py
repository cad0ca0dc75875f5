"""`preflight`: all that is missing on an empty machine, nothing where everything is here."""

import pytest

from eval import cli as command
from eval.preflight import plan, weights
from foir.segment.loader import DEFAULT_SAM
from foir.small_objects.detect import OWL
from tests.eval.preflight.conftest import COMMIT, cache_weights

ENCODERS = sorted({name for spec in plan.tables(()) for name in spec.encoders if name != plan.NONE})


@pytest.fixture
def all_weights(layouts, monkeypatch):
    """Stand-in weights of every encoder of the papers, of the detectors, and adapters."""
    for repo in {*map(weights.repository, ENCODERS), OWL, DEFAULT_SAM}:
        cache_weights(layouts / "hub", repo)
    adapters = layouts / "results" / "adapters"
    adapters.mkdir(parents=True)
    for name in ("dinov2-base", "clip-base-projected", "siglip-base"):
        (adapters / f"{name}.safetensors").write_bytes(b"")
    monkeypatch.setenv("FOIR_REMOTE_CODE", "1")
    return layouts


def test_an_empty_machine_lacks_everything_and_is_told_what_gets_it(empty_machine, capsys):
    assert command.main(["preflight", "--results", str(empty_machine / "results")]) == 1
    out, err = capsys.readouterr()
    to_get = out.partition("\nTo get:\n")[2].splitlines()
    assert f"eval: {len(to_get)} things are missing" in err and len(set(to_get)) == len(to_get)
    for encoder in ENCODERS:
        assert sum(line.endswith(f": hf download {weights.repository(encoder)}") for line in to_get) == 1
    for page in (
        "cocodataset.org",
        "host.robots.ox.ac.uk",
        "visualgenome",
        "SSGRL",
        "DenotationGraph",
        "PDM",
        "INSTRE",
    ):
        assert any(page in line for line in to_get)
    table = [line for line in out.splitlines() if line.startswith("| ")][1:]
    assert table and all("| missing: " in line for line in table)
    assert any("finetune --encoder siglip-base --data voxdet" in line for line in to_get)
    assert sum("(for the rows of detected boxes)" in line for line in to_get) == 3  # two files, OWLv2
    assert sum("(for the rows of annotated boxes and detected boxes)" in line for line in to_get) == 1  # SAM
    assert "uses 1 of " in out and "GB are free" in out


def test_a_machine_with_everything_is_ready(all_weights, capsys):
    assert command.main(["preflight", "--results", str(all_weights / "results"), "--revision", COMMIT]) == 0
    out, _ = capsys.readouterr()
    table = [line for line in out.splitlines() if line.startswith("| ")][1:]
    assert all(line.split(" | ")[3] == "ready" for line in table)
    assert "- coca: laion/mscoco_finetuned_CoCa-ViT-L-14-laion2B-s13B-b90k, cached" in out
    assert "Everything is here" in out and "a part, its numbers are not the paper's" in out
    for name in ("phs-table1", "phs-figA5", "qpert-table4", "mao-main-siglip-base (fine-tuned)", "itae-table"):
        assert any(line.startswith(f"| {name} |") for line in table)


def test_rows_without_their_boxes_are_left_out(all_weights):
    (all_weights / "flickr30k" / "detections.json").unlink()
    (run,) = plan.plan(["qpert-fig2"], all_weights)
    assert run.state == "ready"
    for run in plan.plan(["qpert-table1"], all_weights):
        lacks = run.dataset.startswith("flickr")
        assert run.is_ready and run.state == ("ready, without the rows of detected boxes" if lacks else "ready")


def test_a_run_of_random_weights_needs_no_weights(layouts):
    (run, *_) = plan.plan(["phs-table1"], layouts, pretrained=False)[4:5]
    assert (run.dataset, run.state, run.revision) == ("voc", "ready", "random")


def test_an_unknown_table_is_one_sentence(capsys):
    assert command.main(["preflight", "phs-table9"]) == 1
    assert capsys.readouterr().err.startswith("eval: There is no experiment 'phs-table9'")


def test_the_search_for_hyper_parameters_is_no_table():
    assert "qpert-search" not in {spec.name for spec in plan.tables(())}
    assert [spec.name for spec in plan.tables(["qpert-search"])] == ["qpert-search"]

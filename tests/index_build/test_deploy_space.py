"""A Space: what is sent to the Hub, its front matter, its pins, its settings."""

import importlib.metadata
import subprocess
import sys

import pytest
import yaml

from foir import Unavailable, encoders, hub
from index_build import deploy_space
from index_build.cli import main
from index_build.pipeline import Plan, build
from index_build.publish import publish
from tests import standin_hub
from tests.conftest import draw

hub_server = standin_hub.hub


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(hub, "PAUSES", (0, 0, 0))


def front(readme):
    """The front matter of a card."""
    _, matter, _ = readme.split("---\n", 2)
    return yaml.safe_load(matter)


def test_a_space_holds_the_page_and_what_it_needs_and_nothing_else(hub_server, capsys):
    assert main(["deploy-space", "--repo", "tester/look"]) == 0
    assert capsys.readouterr().out == "https://huggingface.co/spaces/tester/look\n"
    files = hub_server.files("tester/look")
    assert {"app.py", "requirements.txt", "README.md", "foir/search.py", "foir/app/assets/pointer.js"} <= set(files)
    assert "foir/assets/playroom/manifest.json" in files
    assert not any("__pycache__" in name or name.startswith(("tests/", "eval/", "index_build/")) for name in files)
    matter = front(files["README.md"].decode())
    assert matter["sdk"] == "gradio" and matter["sdk_version"] == importlib.metadata.version("gradio")
    assert matter["app_file"] == "app.py" and matter["python_version"] == "3.11"
    assert "preload_from_hub" not in matter
    assert hub_server.variables.get("tester/look", {}) == {}


def test_a_space_opens_the_index_it_was_given_and_fetches_its_weights_while_it_is_built(hub_server, tmp_path):
    build(Plan(draw(tmp_path / "pictures", 3), tmp_path / "index", "toy", device="cpu"))
    address = publish(tmp_path / "index", "tester/index")
    deploy_space.deploy("tester/look", indexes=[address])
    assert hub_server.variables["tester/look"] == {"FOIR_INDEX": address}
    hub_server.add("tester/look", {"foir/methods/gone.py": b"", "notes.md": b"mine"})
    deploy_space.deploy("tester/look")
    assert hub_server.variables["tester/look"] == {}
    files = hub_server.files("tester/look")
    assert "foir/methods/gone.py" not in files and "notes.md" in files and "foir/methods/phs.py" in files
    matter = front(deploy_space.card(["dinov2-base-reg", "mini", "openclip:ViT-B-16/openai", "dinov2-base-reg"]))
    assert matter["preload_from_hub"] == [encoders.encoder_spec("dinov2-base-reg").weights]
    with pytest.raises(Unavailable):
        deploy_space.deploy("tester/look", indexes=["hf://datasets/tester/nothing"])


def test_what_the_hub_refuses_is_one_sentence(hub_server, capsys):
    hub_server.fail(403, 9, "repos/create")
    assert main(["deploy-space", "--repo", "tester/look"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_space_pins_what_the_page_needs():
    pins = deploy_space.pinned((deploy_space.ROOT / "requirements.txt").read_text()).splitlines()
    assert f"gradio[mcp]=={importlib.metadata.version('gradio')}" in pins
    assert not any(pin.startswith(tuple(deploy_space.LEFT_OUT)) for pin in pins)
    assert [pin for pin in pins if "==" not in pin] == ["torch>=2.6"]


def test_the_page_needs_nothing_that_a_space_leaves_out(tmp_path):
    """It is imported and a search runs in a process where none of it, and none of the other rooms, can be imported."""
    refused = sorted({name.replace("-", "_") for name in deploy_space.LEFT_OUT} | {"eval", "index_build", "tests"})
    script = f"""
import sys
for name in {refused}:
    sys.modules[name] = None  # as if it were not installed
import app, foir.app.server
from foir.app.collections import SAMPLE
from foir import Prompt, Searcher
searcher = Searcher.load(SAMPLE)
picture = searcher.open(searcher.index.picture(searcher.index.item(0)))
assert searcher.search(picture, Prompt.box(20, 20, 90, 90), text="a boat").items
assert searcher.caption(picture)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=deploy_space.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-800:]

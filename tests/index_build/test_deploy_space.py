"""A Space: what is sent to the Hub, its front matter, its pins, its settings."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

from foir import Unavailable, encoders, hub
from foir.encoders import mini
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
    assert {"app.py", "requirements.txt", "README.md", "foir/search/searcher.py"} <= set(files)
    assert "foir/assets/playroom/manifest.json" in files and any(name.endswith("/pointer.js") for name in files)
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


@pytest.mark.parametrize("names", [[], ["dinov2-base-reg"], ["mini", "mini"]])
def test_the_card_says_once_what_mini_learnt_from(names):
    card = deploy_space.card(names)
    assert front(card)["license"] == "other"
    assert card.count(mini.TERMS) == 1 and "Flickr8k" in mini.TERMS


def test_what_the_hub_refuses_is_one_sentence(hub_server, capsys):
    hub_server.fail(403, 9, "repos/create")
    assert main(["deploy-space", "--repo", "tester/look"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


PROJECT = tomllib.loads((deploy_space.ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [
    re.split("[<>=]", line)[0]
    for extra in ("eval", "train", "test")
    for line in PROJECT["optional-dependencies"][extra]
]


def test_the_space_pins_what_the_page_needs():
    pins = deploy_space.pin_requirements(PROJECT["dependencies"]).splitlines()
    assert f"gradio[mcp]=={importlib.metadata.version('gradio')}" in pins
    assert not any(pin.startswith(tuple(EXTRAS)) for pin in pins)
    assert [pin for pin in pins if "==" not in pin] == ["torch>=2.6", "torchvision>=0.21"]


METADATA = """Metadata-Version: 2.4
Name: foir
Version: 0.1.0
Requires-Dist: gradio[mcp]<7,>=6.31
Requires-Dist: torch>=2.6
Requires-Dist: numpy>=2.0; python_version >= "3.11"
Requires-Dist: pyarrow>=18.0; extra == "scale"
"""


@pytest.fixture(params=["checkout", "installed"])
def root(request, tmp_path):
    """The folder that foir is imported from: this checkout, or one laid out as site-packages."""
    if request.param == "checkout":
        return deploy_space.ROOT
    site = tmp_path / "site-packages"
    shutil.copytree(deploy_space.ROOT / "foir", site / "foir", ignore=shutil.ignore_patterns("__pycache__"))
    for name in deploy_space.COMMANDS:
        (site / "foir" / name).mkdir()
        (site / "foir" / name / "__init__.py").touch()
    (site / "foir-0.1.0.dist-info" / "licenses").mkdir(parents=True)
    (site / "foir-0.1.0.dist-info" / "METADATA").write_text(METADATA)
    for name in deploy_space.LICENCES:
        (site / "foir-0.1.0.dist-info" / "licenses" / name).write_text(name)
    return site


def test_a_space_is_the_same_from_a_checkout_and_from_an_installed_package(root, tmp_path):
    stage = tmp_path / "stage"
    stage.mkdir()
    deploy_space.write_files(stage, root=root)
    names = {path.name for path in stage.iterdir()}
    assert names == {"app.py", "foir", "LICENSE", "NOTICE", "requirements.txt", "README.md"}
    assert (stage / "app.py").read_text() == (deploy_space.ROOT / "app.py").read_text()
    ours = {path.relative_to(deploy_space.ROOT).as_posix() for path in (deploy_space.ROOT / "foir").rglob("*")}
    staged = {path.relative_to(stage).as_posix() for path in (stage / "foir").rglob("*")}
    assert staged == {name for name in ours if "__pycache__" not in name}
    pins = (stage / "requirements.txt").read_text().splitlines()
    pinned = {f"gradio[mcp]=={importlib.metadata.version('gradio')}", f"numpy=={importlib.metadata.version('numpy')}"}
    assert pinned | {"torch>=2.6"} <= set(pins)
    assert root == deploy_space.ROOT or len(pins) == 3  # without the extra


def test_the_page_needs_nothing_that_a_space_leaves_out(root, tmp_path):
    """Its modules are imported and a search runs where nothing else of the project can be imported."""
    stage = tmp_path / "stage"
    stage.mkdir()
    deploy_space.write_files(stage, root=root)
    extras = {name.replace("-", "_") for name in EXTRAS} - {"setuptools"}  # which torch may import
    refused = sorted(extras | {"eval", "index_build", "tests"})
    script = f"""
import importlib, pkgutil, sys
for name in {refused}:
    sys.modules[name] = None  # as if it were not installed
import foir.app
for module in pkgutil.iter_modules(foir.app.__path__):
    importlib.import_module(f"foir.app.{{module.name}}")
assert foir.__file__.startswith({str(stage)!r})
from foir import Prompt, Searcher
from foir.search.query import Query
from foir.app.collections import SAMPLE
searcher = Searcher.load(SAMPLE)
picture = searcher.open(searcher.index.picture(searcher.index.item(0)))
assert searcher.search(Query(picture, Prompt.box(20, 20, 90, 90), text="a boat")).items
assert searcher.caption(picture)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=stage, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]

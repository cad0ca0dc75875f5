"""The wheel: built from the checkout, unpacked somewhere else, used from an empty folder."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from foir.encoders import mini
from tests.conftest import draw

ROOT = Path(__file__).parents[1]
SOURCES = ("foir", "eval", "index_build", "pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE")
MAX_BYTES = 80 * 2**20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), "."]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = out.glob("foir-*.whl")
    return path


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    """Runs `foir ...` of the unpacked wheel in an empty folder; returns what it printed."""
    site, empty = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("empty")
    zipfile.ZipFile(wheel).extractall(site)

    def run(*args, code="from foir.cli.main import main; import sys; sys.exit(main())"):
        environment = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, args)], cwd=empty, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


def test_the_wheel_holds_the_packages_the_sample_and_mini_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"foir"}
    for needed in (
        "foir/py.typed",
        "foir/eval/cli.py",
        "foir/index_build/cli.py",
        "foir/assets/playroom/manifest.json",
        "foir/assets/mini/towers.safetensors",
        "foir/assets/mini/LICENSE",
        "foir/app/assets/page.css",
    ):
        assert needed in names
    in_tree = {
        path.relative_to(ROOT).as_posix()
        for package in ("foir", "eval", "index_build")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    in_wheel = {name.removeprefix("foir/") if name.startswith(("foir/eval/", "foir/index_build/")) else name
                for name in names if ".dist-info/" not in name}  # fmt: skip
    assert in_tree == in_wheel
    assert wheel.stat().st_size < MAX_BYTES


def test_every_command_is_found_and_has_an_example(run):
    assert all(command in run("--help") for command in ("search", "caption", "encoders", "serve", "index", "eval"))
    subcommands = {
        "index": ("build", "update", "add", "remove", "verify", "gc", "publish", "pull", "deploy-space", "bench"),
        "eval": ("list", "run", "report", "bench"),
    }
    for command in ("search", "caption", "encoders", "serve"):
        assert "Example: foir " + command in run(command, "--help")
    for command, parts in subcommands.items():
        for part in parts:
            assert f"Example: foir {command} {part}" in run(command, part, "--help")


def test_photos_are_indexed_and_searched_from_an_empty_folder(run, tmp_path):
    folder = draw(tmp_path / "photos", 3)
    assert "3 images indexed" in run("index", "build", folder, "--out", tmp_path / "index", "--device", "cpu")
    results = run(
        "search", tmp_path / "index", folder / "01.png", "--box", "20,10,80,70", "--k", "2", "--device", "cpu"
    )
    assert len(results.splitlines()) == 2 and results.split("\t")[0] == "1"


def test_the_page_indexes_a_folder_when_installed(run, tmp_path):
    folder = draw(tmp_path / "photos", 2)
    code = f"""
import time
from foir.app.jobs import IndexingJob

job = IndexingJob("photos", "here", ["build", {str(folder)!r}, "--out", {str(tmp_path / "index")!r}], lambda *_: "key")
while job.running:
    time.sleep(0.1)
print(job.succeeded, job.progress().error)
"""
    assert run(code=code).split() == ["True"]


def test_the_installed_modules_are_ours_whatever_else_is_named_eval(run):
    code = "import foir.eval.cli, foir.index_build.cli, sys; print('eval' in sys.modules, 'index_build' in sys.modules)"
    assert run(code=code).split() == ["False", "False"]


def test_the_terms_of_mini_are_the_same_words_everywhere():
    for name in ("NOTICE", "foir/assets/mini/LICENSE"):
        assert mini.TERMS in " ".join((ROOT / name).read_text().split())


def test_requirements_are_the_dependencies_with_their_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = {line for line in lines if line and not line.startswith("#")}
    assert required == {*project["dependencies"], *extras["eval"], *extras["train"], *extras["test"]}
    scale = {line for line in (ROOT / "requirements-scale.txt").read_text().splitlines() if line[:1] not in ("#", "-")}
    assert scale == set(extras["scale"])


def test_the_lock_holds_every_requirement_with_hashes_and_no_address():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|^ *-(?!-hash)|^[^#\n]*@", text, re.MULTILINE)  # no index, no link, no path
    locked: dict[str, list[str]] = {}
    for name, version, rest in re.findall(r"^([\w.-]+)==(\S+)(.*(?:\n {4}--hash=.*)*)", text, re.MULTILINE):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", rest), name
        locked.setdefault(canonicalize_name(name), []).append(version)
    assert len(locked) == len(set(re.findall(r"^[\w.-]+(?===)", text, re.MULTILINE))) > 100
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    for requirement in (Requirement(line) for line in lines if line and not line.startswith("#")):
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert versions and all(version in requirement.specifier for version in versions), requirement

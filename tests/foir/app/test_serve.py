"""The command that serves the page: its help, its indexes, what it reports."""

import subprocess
import sys

import pytest

from foir.app.serve import main


def test_help_needs_no_model_library_and_has_an_example():
    script = (
        "import sys; from foir.app.serve import main; print({'torch', 'gradio'} & set(sys.modules)); main(['--help'])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("set()") and "Example: python app.py " in shown


@pytest.mark.parametrize("arguments", [["{}"], ["--index", "{}"]])
def test_an_index_that_cannot_be_opened_is_one_sentence(tmp_path, capsys, arguments):
    assert main([argument.format(tmp_path / "none") for argument in arguments], prog="foir serve") == 1
    error = capsys.readouterr().err
    assert error.startswith("foir: ") and error.count("\n") == 1

"""What command lines share: arguments, lines of output, and errors as one line.

Names and captions come from strangers: their control characters could retitle a terminal or overwrite its lines.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from foir.errors import FoirError, Unavailable, describe_os_error

# Control characters, line ends, marks that reverse the direction of text, and halves of characters.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    r"""The text on one line, characters that act on a terminal written as Python does: `\x1b`, `\n`."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def write(*fields: Any, error: bool = False) -> None:
    """Write fields, escaped and separated by tabs, as one line to stdout, or to stderr."""
    stream = sys.stderr if error else sys.stdout
    line = "\t".join(escaped(str(field)) for field in fields) + "\n"
    encoding = stream.encoding or "utf-8"
    with _output_errors():
        stream.write(line.encode(encoding, "backslashreplace").decode(encoding))


def write_exactly(text: str) -> None:
    """Write lines to stdout: to a file or another program as they are, to a terminal escaped."""
    stream = sys.stdout
    if stream.isatty():
        write_lines(text)
        return
    with _output_errors():
        stream.flush()
        data = text.encode("utf-8", "surrogateescape") + b"\n"
        if hasattr(stream, "buffer"):
            stream.buffer.write(data)
        else:
            stream.write(data.decode("utf-8", "replace"))


def write_lines(text: str) -> None:
    """Write a text of several lines to stdout, each of them escaped."""
    for line in text.split("\n"):
        write(line)


def positive_int(text: str) -> int:
    """Type of an argument that is a whole number from 1."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def run_command(name: str, command: Callable[[], Any]) -> int:
    """Run a command. Warnings and errors are one line each on stderr.

    Args:
        name: Precedes an error.
        command: What to run.

    Returns:
        The exit status: 1 after an error of foir or of the operating system.
    """
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: write(f"warning: {message}", error=True)
        try:
            command()
            with _output_errors():
                sys.stdout.flush()
        except FoirError as error:
            write(f"{name}: {error}", error=True)
        except BrokenPipeError:  # the reader of a pipe, such as head, has enough
            _discard_output()
            return 0
        except OSError as error:
            failure = f"{error.filename or 'A file'} cannot be read or written"
            write(f"{name}: {describe_os_error(failure, error)}", error=True)
        else:
            return 0
    return 1


@contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_output()
        raise Unavailable(describe_os_error("The output cannot be written", error)) from error


def _discard_output() -> None:
    """Send what is left in the buffer of stdout nowhere; else the interpreter would try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Parser(argparse.ArgumentParser):
    """A parser of arguments whose errors are escaped: a pattern of the shell can pass file names as options."""

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser`."""
        super().error(escaped(message))


def not_empty(text: str) -> str:
    """An argument that names something."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: name a file or a folder")
    return text


def path(text: str) -> Path:
    """An argument that is a path. An empty one would be the current folder."""
    return Path(not_empty(text))

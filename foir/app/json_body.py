"""What a JSON body from a stranger may hold, checked on its bytes: parsing 30 MB of brackets would stop the server."""

from __future__ import annotations

import re

from foir.errors import BadPrompt

MAX_TOKENS = 100_000  # elements and escapes; a prompt of 10,000 boxes has 50,000
MAX_DEPTH = 32
MAX_OUTSIDE = 2_000_000  # bytes outside of strings: numbers and what separates them
_COUNTED = (b"[", b"{", b",", b":", b'"', b"\\")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# Numbers that may be infinite: below, 200 digits and an exponent of 99 at most. Each search takes linear time.
_LONG_NUMBER = re.compile(rb"(?<!\d)\d{201}")
_LARGE_EXPONENT = re.compile(rb"[eE]\+?0*+\d{3}")
_SURROGATE_PAIR = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..")
_NO_CHARACTER = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)")


def count_tokens(piece: bytes) -> int:
    """Upper bound of the number of elements that a piece of a body adds, and of its escapes."""
    return sum(map(piece.count, _COUNTED))


def check_json(body: bytes) -> None:
    """Refuse a body that the parser, or code behind it, could choke on. Its tokens were counted before.

    Raises:
        BadPrompt: Deep nesting, too many elements, a number that is not finite or very long, text that is no Unicode or
            holds NUL.
    """
    escapes = body.replace(b"\\\\", b"") if b"\\" in body else body
    unquoted = escapes.replace(b'\\"', b"") if b"\\" in escapes else escapes
    outside = b"".join(unquoted.split(b'"')[::2])  # of strings
    if len(outside) > MAX_OUTSIDE:
        raise BadPrompt("The request holds too many elements.")
    if b"NaN" in outside or b"Infinity" in outside or _LONG_NUMBER.search(outside) or _LARGE_EXPONENT.search(outside):
        raise BadPrompt("The request holds a number that is not finite or is too large.")
    if _depth(outside) > MAX_DEPTH:
        raise BadPrompt(f"The request nests lists more than {MAX_DEPTH} deep.")
    if b"\0" in body or not _is_utf8(body) or _NO_CHARACTER.search(_SURROGATE_PAIR.sub(b"", escapes)):
        raise BadPrompt("The request holds text that is no Unicode, or a NUL character.")


def _depth(outside: bytes) -> int:
    depth = deepest = 0
    for bracket in outside.translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True

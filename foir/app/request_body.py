"""Bodies of requests: which routes take one, how large it may be, and what is counted before it is parsed."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from foir.app.json_body import MAX_TOKENS, check_json, count_tokens
from foir.app.pictures import UPLOAD_BYTES
from foir.errors import BadPrompt

SMALL_BODY = 100_000  # bytes of a request that carries no image
MAX_BODY = 32_000_000  # bytes of a request; an uploaded image may have 20 million, a third more in base64
FORM_BYTES = 100_000  # of an upload around its file
PICTURE_CALLS = {"call/search", "call/caption", "call/feedback"}  # endpoints that take images, as base64 in JSON
UPLOAD, EVENT, MCP = "upload", "queue/join", "mcp"  # the first is a form, which Gradio reads while it comes
ROUTES = PICTURE_CALLS | {"call/search_text", "call/collections", UPLOAD, EVENT, "run/predict", "cancel", "reset"}


def takes_body(route: str) -> bool:
    """Whether a route of Gradio's API takes requests that are not GET; it has more, which nothing here needs."""
    return route in ROUTES or _is_mcp(route)


def body_limit(route: str) -> int:
    """How many bytes the body of a request may have."""
    if route == UPLOAD:
        return UPLOAD_BYTES + FORM_BYTES
    return MAX_BODY if route in PICTURE_CALLS or route == EVENT or _is_mcp(route) else SMALL_BODY


async def checked_body(receive: Receive, route: str) -> Receive:
    """Read a body and check it before anything parses it; returns what passes it on.

    Raises:
        HTTPException: It is too large, has too many elements, or see `check_json`.
    """
    limited, pieces, tokens = _limited(receive, body_limit(route)), [], 0
    if route == UPLOAD:
        return limited
    message: Message = {"more_body": True}
    while message.get("more_body"):
        message = await limited()
        if message["type"] == "http.disconnect":
            return receive
        pieces.append(message.get("body", b""))
        tokens += count_tokens(pieces[-1])
        if tokens > MAX_TOKENS:
            raise HTTPException(413, "The request holds too many elements.")
    body = b"".join(pieces)
    pieces.clear()
    try:
        check_json(body)
    except BadPrompt as error:
        raise HTTPException(400, str(error)) from error
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    return _replayed(first, receive)


def _replayed(first: list[Message], receive: Receive) -> Receive:
    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


def _limited(receive: Receive, limit: int) -> Receive:
    """The same body, ended with 413 where a chunked request has more than its limit."""
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, "The request is too large.")
        return message

    return limited


def _is_mcp(route: str) -> bool:
    return route.partition("/")[0] == MCP

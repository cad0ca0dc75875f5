"""The photos of an Immich server, by its documented API: `POST /api/search/metadata`, `GET /api/assets/ID/thumbnail`.

`immich://HOST[:PORT]` is asked over https, `immich+http://HOST[:PORT]` over http. The key comes from IMMICH_API_KEY
and is sent to that host alone, in a header. foir reads previews, which the server makes of every format, and writes
nothing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from foir.errors import Unavailable
from foir.images import MAX_BYTES
from foir.photo_facts import PhotoFacts, camera_name, clean_text, joined_keywords, seconds

from .base import Chunk, Metadata, SourceImage

KEY = "IMMICH_API_KEY"
ADDRESS = re.compile(r"immich(\+http)?://([\w.-]+(?::\d+)?|\[[0-9a-fA-F:]+\](?::\d+)?)/?")
ASSET_ID = re.compile(r"[0-9a-fA-F-]{36}")
PAGE, MAX_PAGES = 1000, 10_000
TIMEOUT = httpx.Timeout(30.0)


def open_immich(address: str, out: Path) -> ImmichSource | None:
    """Open the address of a server; see `open_source`."""
    if not address.startswith(("immich://", "immich+http://")):
        return None
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise Unavailable(f"{address} names no Immich server: write immich://HOST or immich+http://HOST:2283.")
    return ImmichSource(address.rstrip("/"), f"http{'' if match[1] else 's'}://{match[2]}")


class ImmichSource:
    """The photos that a key may see, in the order of their ids."""

    root: Path | None = None
    rejected: Sequence[dict[str, str]] = ()

    def __init__(self, address: str, url: str) -> None:
        """List the photos.

        Args:
            address: What the index records as their source.
            url: Of the server.

        Raises:
            Unavailable: There is no key, the server refuses it or does not answer as documented.
        """
        self.address, self.url = address, url
        with _client(url) as client:
            assets = {asset["id"]: asset for asset in _list(client, url)}
        self.assets = [assets[id] for id in sorted(assets)]

    def chunks(self, size: int) -> Sequence[Chunk]:
        """The photos in chunks. Ids are positions."""
        if not self.assets:
            raise Unavailable(f"{self.url} has no photos that this key may see.")
        starts = range(0, len(self.assets), size)
        return [_ImmichChunk(self.address, self.url, s, self.assets[s : s + size]) for s in starts]


@dataclass(frozen=True)
class _ImmichChunk:
    """Photos with consecutive ids."""

    address: str
    url: str
    start: int
    assets: Sequence[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.assets)

    def fingerprint(self) -> Any:
        """First id, and what the server says about each photo."""
        return [self.url, self.start, self.assets]

    def images(self) -> Iterator[SourceImage]:
        """The photos' previews, read one after the other; one that is gone is read as an empty file."""
        with _client(self.url) as client:
            for id, asset in enumerate(self.assets, self.start):
                data = _answer(client, "GET", f"/api/assets/{asset['id']}/thumbnail?size=preview", missing=b"")
                name = f"{asset['id']}/{asset['name']}"
                metadata = Metadata(asset["caption"], self.address, facts=PhotoFacts(**asset["facts"]))
                yield SourceImage(id, name, data, metadata)


def _client(url: str) -> httpx.Client:
    key = os.environ.get(KEY, "").strip()
    if not key.isascii() or not key:
        raise Unavailable(f"Set {KEY} to a key of the Immich server {url} (its Account Settings make one).")
    return httpx.Client(base_url=url, headers={"x-api-key": key}, timeout=TIMEOUT, follow_redirects=False)


def _list(client: httpx.Client, url: str) -> Iterator[dict[str, Any]]:
    """What is kept of each photo that the server lists."""
    page: int | None = 1
    while page is not None:
        wanted = {"page": page, "size": PAGE, "type": "IMAGE", "withExif": True}
        try:
            found = json.loads(_answer(client, "POST", "/api/search/metadata", wanted))["assets"]
            yield from (_asset(each) for each in found["items"])
            following = None if found.get("nextPage") is None else int(found["nextPage"])
            if following is not None and not page < following <= MAX_PAGES:
                raise ValueError(following)
            page = following
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise Unavailable(f"{url} does not answer as Immich documents it: is it one, and not too old?") from error


def _asset(found: Mapping[str, Any]) -> dict[str, Any]:
    """A photo's id, file name, caption and facts; nothing of its place or owner.

    Raises:
        ValueError: The server sends another form.
    """
    exif = found.get("exifInfo") or {}
    id, name = str(found["id"]), clean_text(found["originalFileName"]) or "photo"
    if not ASSET_ID.fullmatch(id):
        raise ValueError(id)
    make, model = (clean_text(exif.get(part)) or "" for part in ("make", "model"))
    rating = exif.get("rating")
    facts = {
        "taken": seconds(str(found.get("localDateTime") or "").replace("T", " ")),
        "camera": camera_name(make, model),
        "lens": clean_text(exif.get("lensModel")),
        "rating": rating if isinstance(rating, int) and 1 <= rating <= 5 else None,
        "keywords": joined_keywords([tag.get("value") for tag in found.get("tags") or ()]),
    }
    caption, version = clean_text(exif.get("description")), str(found.get("checksum"))
    return {"id": id, "name": name.replace("/", "_"), "caption": caption, "version": version, "facts": facts}


def _answer(client: httpx.Client, method: str, path: str, body: Any = None, *, missing: bytes | None = None) -> bytes:
    """The bytes of an answer; `missing` where the server knows no such thing.

    Raises:
        Unavailable: The server refuses the key, does not answer, or sends more than any preview has.
    """
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(httpx.TransportError), stop=stop_after_attempt(4), reraise=True,
            wait=wait_exponential(multiplier=0.3, max=5),
        ):  # fmt: skip
            with attempt, client.stream(method, path, json=body) as response:
                if response.status_code in (400, 404) and missing is not None:  # 400 of what was deleted
                    return missing
                if response.status_code in (401, 403):
                    raise Unavailable(f"{client.base_url} refuses the key in {KEY}: it needs to read and view assets.")
                response.raise_for_status()
                data = bytearray()
                for part in response.iter_bytes():
                    data += part
                    if len(data) > MAX_BYTES:
                        raise Unavailable(f"{client.base_url} sends more than a preview can have.")
                return bytes(data)
    except httpx.HTTPError as error:
        raise Unavailable(f"{client.base_url} does not answer ({type(error).__name__}).") from error
    raise AssertionError

"""Memory of the page after many requests of 30 MB."""

import base64
import io
import os
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from eval.benchmarks import load
from tests.reliability.visitors import PROXY

EARLY, LAST, BODY = 20, 200, 30_000_000


def measure() -> list[str]:
    """The line of the report."""
    os.environ.update(PROXY)
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (2500, 2600, 3), np.uint8)
    Image.fromarray(noise).save(out, "PNG", compress_level=0)
    image = base64.b64encode(out.getvalue()).decode()
    body = {"data": [image, None, None, None, "", "", 0.5, "", None, "query", 5, ""], "padding": ""}
    body["padding"] = "x" * (BODY - len(image))
    megabytes = {}
    with load.served() as (page, process), httpx.Client(base_url=page, timeout=120) as http:
        for number in range(1, LAST + 1):
            from_elsewhere = {"X-Forwarded-For": f"192.0.{number}.1"}
            made = http.post("/gradio_api/call/search", json=body, headers=from_elsewhere)
            answer = http.get(f"/gradio_api/call/search/{made.json()['event_id']}", headers=from_elsewhere).text
            assert "event: complete" in answer, answer[:300]
            if number in (EARLY, LAST):
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                megabytes[number] = pages * os.sysconf("SC_PAGE_SIZE") // 2**20
    return [
        f"memory after {LAST} requests of 30 MB: {megabytes[EARLY]} MB after {EARLY}, "
        f"{megabytes[LAST]} MB after {LAST} (goal flat)"
    ]

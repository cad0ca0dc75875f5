"""Thirty visitors with one picture at one time, and what one client can make another wait."""

import io
import json
import os
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import numpy as np
from PIL import Image

from eval.benchmarks import load

VISITORS, ATTACKERS, SECONDS = 30, 40, 20.0
PROXY = {"FOIR_PROXIES": "127.0.0.1"}  # each visitor states an address of its own


class Visitor:
    """A browser with the page open: its cookie, its address, its session."""

    def __init__(self, page, address="192.0.2.1"):
        self.http = httpx.Client(base_url=page, timeout=120, headers={"X-Forwarded-For": address})
        self.http.get("/").raise_for_status()
        self.hash = uuid4().hex[:10]
        config = self.http.get("/config").json()
        self.values = {each["id"]: each["props"].get("value") for each in config["components"]}
        self.named = {each["props"].get("elem_id"): each["id"] for each in config["components"]}
        self.events: dict[tuple[int | None, str], dict] = {}
        for each in config["dependencies"]:
            for target, kind in each["targets"]:
                self.events.setdefault((None if kind == "load" else target, kind), each)

    def join(self, name, kind, data=None, event_data=None):
        """Send an event of the page; whether it may wait."""
        target = name and self.named[name]
        dependency = self.events[target, kind]
        values = [(data or {}).get(id, self.values[id]) for id in dependency["inputs"]]
        body = {"data": values, "fn_index": dependency["id"], "session_hash": self.hash, "event_data": event_data}
        return self.http.post("/gradio_api/queue/join", json={**body, "trigger_id": target}).status_code == 200

    def event(self, *args, **given):
        """Wait for an event of the page; its outputs, or None where it failed."""
        if not self.join(*args, **given):
            return None
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.hash}) as lines:
            for line in lines.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed":
                    return message["output"].get("data") if message["success"] else None
        return None

    def open(self):
        return self.event(None, "load")

    def upload(self, picture):
        """Search with a picture of one's own."""
        answer = self.http.post("/gradio_api/upload", files={"files": ("mine.jpg", picture)})
        if answer.status_code != 200:
            return None
        file = {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}
        return self.event("upload", "upload", {self.named["upload"]: file})

    def choose(self, id):
        """Search with an image of the collection."""
        return self.event("results", "select", event_data={"id": id})


def measure() -> list[str]:
    """The lines of the report."""
    with load.served() as (page, _):
        lines = [same_picture(page)]
    os.environ.update(PROXY)
    with load.served() as (page, _):
        lines.append(longest_wait(page))
    return lines


def same_picture(page):
    """All at one address, as in a class."""
    visitors = [Visitor(page) for _ in range(VISITORS)]
    picture, barrier = photo(12_000_000), threading.Barrier(VISITORS)

    def visit(visitor):
        visitor.open()
        barrier.wait()
        start = time.monotonic()
        answer = visitor.upload(picture)
        return time.monotonic() - start, answer is not None

    with ThreadPoolExecutor(VISITORS) as pool:
        answers = list(pool.map(visit, visitors))
    seconds = [each for each, answered in answers if answered] or [float("inf")]
    return (
        f"30 visitors with one picture: median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s, "
        f"{sum(answered for _, answered in answers)} of {VISITORS} answered"
    )


def longest_wait(page):
    """The slowest search of a visitor while another client asks for as much as it can, of each kind."""
    largest = photo(23_900_000)
    kinds = {
        "joins": lambda visitor: visitor.choose(7),
        "uploads": lambda visitor: visitor.upload(largest),
        "programs": lambda visitor: call(page, visitor, item=7, boxes=[[10, 10, 60, 60]], mode="query-db"),
    }
    alone = wait_under(page, lambda visitor: None)
    waits = {kind: wait_under(page, action) for kind, action in kinds.items()}
    told = ", ".join(f"{kind} {seconds:.1f} s" for kind, seconds in waits.items())
    return f"longest wait one client can cause: {max(waits.values()):.1f} s (goal 3 s; {told}; alone {alone:.1f} s)"


def wait_under(page, action):
    attacker, victim = Visitor(page, "192.0.2.66"), Visitor(page, "192.0.2.1")
    victim.open()
    end, slowest = time.monotonic() + SECONDS, 0.0

    def attack(_):
        own = Visitor(page, "192.0.2.66")
        own.http.cookies = attacker.http.cookies  # one client with many pages
        while time.monotonic() < end:
            if action(own) is None:  # refused; a flood of requests is another matter
                time.sleep(2)

    with ThreadPoolExecutor(ATTACKERS) as pool:
        attacks = [pool.submit(attack, number) for number in range(ATTACKERS)]
        time.sleep(2)
        while time.monotonic() < end:
            start = time.monotonic()
            answered = victim.choose(3) is not None
            slowest = max(slowest, time.monotonic() - start if answered else float("inf"))
            time.sleep(0.2)
        for each in attacks:
            each.result()
    return slowest


def call(page, visitor, **arguments):
    """Call the endpoint for programs."""
    made = visitor.http.post("/gradio_api/call/v2/search", json=arguments)
    if made.status_code != 200:
        return None
    return visitor.http.get(f"/gradio_api/call/search/{made.json()['event_id']}").text


def photo(pixels):
    """A JPEG of so many pixels, with structure everywhere."""
    side = int(pixels**0.5)
    small = np.random.default_rng(0).integers(0, 256, (side // 16, side // 16, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()

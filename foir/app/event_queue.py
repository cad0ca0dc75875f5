"""The queue of events, shared fairly: who has few events waiting is served next, and no event waits without end."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import gradio as gr
from cachetools import LRUCache
from gradio.queueing import Event, Queue
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import error_payload

from foir.app.clients import Client, client_of
from foir.app.fair_store import Capacity, FairStore
from foir.app.fairness import EVENT_RATES, MAX_BUCKETS, TokenBuckets

BUSY = "The page is busy: try again in a moment."
MODEL = "model"  # concurrency id of the events that take their turn; others only follow a job
MAX_WAIT, MAX_RUN = 120.0, 60.0  # seconds until an event is answered with BUSY
MAX_OVERDUE = 3  # threads that still run an event which was answered; further ones keep their place
# Events and bytes that wait. Many people may share an address, so it may have half of all places.
WAITING = {"client": Capacity(3, 96e6), "address": Capacity(64, 256e6), "everyone": Capacity(128, 512e6)}
# Gradio keeps the components of each page that was opened, and the messages of 2,000.
PAGES = {"client": Capacity(32), "everyone": Capacity(1500)}


class FairQueue(Queue):
    """Gradio's queue, in which one client can neither take all places nor keep others waiting."""

    def __init__(self, blocks: gr.Blocks) -> None:
        """Make a queue for a page that is not launched yet."""
        super().__init__(True, blocks.max_threads, 1, None, blocks)
        self.max_wait, self.max_run = MAX_WAIT, MAX_RUN
        self._overdue, self._buckets = 0, TokenBuckets(EVENT_RATES)
        self._turns, self._turn = LRUCache[tuple[str, Client], int](MAX_BUCKETS), 0
        self._pages = FairStore[None](PAGES, on_drop=lambda session_hash, _: self._forget(session_hash))

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Let an event wait; refuse it if its client has too many waiting, or came too often."""
        client = client_of(request.scope)
        if not (self._has_room(client, _size(body)) and self._buckets.take(client, 1)):
            return False, BUSY, "queue_full"
        for key in _turn_keys(client):
            self._turns.setdefault(key, self._turn)  # who is new comes after those who wait already
        answer = await super().push(body, request, username)
        if body.session_hash:
            self._pages.put(body.session_hash, None, client)
        return answer

    def send_message(self, event: Event, event_message: Any) -> None:
        """Tell a page about its event, if the page is still there."""
        if event.session_hash in self.pending_messages_per_session:
            super().send_message(event, event_message)

    def compute_analytics_summary(self, records: Any) -> Any:
        """Nothing: Gradio would summarise the last 10,000 events after each event."""
        return self.cached_event_analytics_summary

    def get_events(self) -> Any:
        """The next event: of those waiting, one whose address, and there whose client, was served longest ago."""
        now = time.monotonic()
        for event_queue in self.event_queue_per_concurrency_id.values():
            for event in [event for event in event_queue.queue if now - event.enqueue_time > self.max_wait]:
                event_queue.queue.remove(event)
                self.event_ids_to_events.pop(event._id, None)
                self._answer_busy(event)
            limit = event_queue.concurrency_limit
            if len(event_queue.queue) > 1 and (limit is None or event_queue.current_concurrency < limit):
                event_queue.queue.sort(key=self._last_turns)
        batch = super().get_events()
        for event in batch[0] if batch else ():
            self._turn += 1
            self._turns.update(dict.fromkeys(_turn_keys(_client(event)), self._turn))
        return batch

    async def process_events(self, events: list[Event], batch: bool, begin_time: float, fn: Any) -> None:
        """Run an event. At its deadline it is answered and gives up its place, but its thread cannot be stopped."""
        task = asyncio.ensure_future(super().process_events(events, batch, begin_time, fn))
        try:
            done, _ = await asyncio.wait({task}, timeout=self.max_run if fn.concurrency_id == MODEL else None)
            if not done:
                await self._outlast(task, events)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            raise
        finally:
            for event in events:
                if event.fn.api_visibility == "public":  # a program's: nothing of it is needed for the next
                    self._forget_inputs(event.session_hash)

    async def _outlast(self, task: asyncio.Future[None], events: list[Event]) -> None:
        """Answer events, and let the next one run while they end."""
        for event in events:
            self._answer_busy(event)
            event.alive = False
        if self._overdue >= MAX_OVERDUE:
            await asyncio.wait({task})
            return
        places = self.event_queue_per_concurrency_id[MODEL]
        self._overdue, places.current_concurrency = self._overdue + 1, places.current_concurrency - 1
        try:
            await asyncio.wait({task})
        finally:  # the task gave up its place once more
            self._overdue, places.current_concurrency = self._overdue - 1, places.current_concurrency + 1

    def _has_room(self, client: Client, size: int) -> bool:
        waiting = [event for each in self.event_queue_per_concurrency_id.values() for event in each.queue]
        for level, group in client.groups.items():
            sizes = [_size(event.data) for event in waiting if _client(event).groups.get(level) == group]
            if len(sizes) >= WAITING[level].count or sum(sizes) + size > WAITING[level].bytes:
                return False
        return True

    def _last_turns(self, event: Event) -> list[int]:
        return [self._turns.get(key, 0) for key in _turn_keys(_client(event))]

    def _answer_busy(self, event: Event) -> None:
        output = error_payload(gr.Error(BUSY, title="That took too long", print_exception=False), False)
        self.send_message(event, ProcessCompletedMessage(output=output, success=False))

    def _forget_inputs(self, session_hash: str) -> None:
        """Drop the values of components, which Gradio keeps for each page and each call, pictures too."""
        self.blocks.state_holder.session_data.pop(session_hash, None)
        self.blocks.state_holder.time_last_used.pop(session_hash, None)

    def _forget(self, session_hash: str) -> None:
        """Drop all that Gradio keeps of a page that was opened."""
        self._forget_inputs(session_hash)
        self.pending_messages_per_session.pop(session_hash, None)
        self.pending_event_ids_session.pop(session_hash, None)


def _client(event: Event) -> Client:
    return client_of(event.request.scope)


def _turn_keys(client: Client) -> list[tuple[str, Client]]:
    return [("address", client.groups["address"]), ("client", client)]


def _size(body: Any) -> int:
    """Bytes of the texts that an event carries, such as an image in base64."""
    return sum(len(value) for value in body.data if isinstance(value, str)) if body and body.data else 0

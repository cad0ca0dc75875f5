"""The queue of events: fair, bounded, and nobody waits without end."""

import asyncio
import time

import gradio as gr
import pytest
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Queue
from gradio.server_messages import ProcessCompletedMessage
from gradio.state_holder import StateHolder
from starlette.requests import Request

from foir.app import event_queue
from foir.app.clients import STATE, Client
from foir.app.event_queue import BUSY, FairQueue
from foir.app.fair_store import Capacity
from tests.foir.app.standins import ANN, BOB, FAR, apart


def same(text: str) -> str:
    return text


@pytest.fixture(scope="module")
def blocks():
    with gr.Blocks() as blocks:
        gr.events.api(same, api_name="search", concurrency_id="model")
        gr.events.api(same, api_name="other", concurrency_id="job")
        gr.Button().click(lambda: None, api_visibility="private", concurrency_id="model")
    return blocks.queue()


@pytest.fixture
def queue(blocks):
    StateHolder().set_blocks(blocks)
    return FairQueue(blocks)


async def push(queue, client, text="", fn=0, page=None):
    """One more event of a client; its id, or None where it was refused."""
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], STATE: client}
    body = PredictBodyInternal(data=[text], fn_index=fn, session_hash=page)
    done, id, state = await queue.push(body, Request(scope), None)
    assert done or (id, state) == (BUSY, "queue_full")
    return id if done else None


def served(queue):
    """The clients of all waiting events, in the order in which they are served."""
    order = []
    while batch := queue.get_events():
        order.append(batch[0][0].request.scope[STATE])
    return order


def messages(queue, event):
    pending = queue.pending_messages_per_session[event.session_hash]
    told = [pending.get_nowait() for _ in range(pending.qsize())]
    return [message.output for message in told if isinstance(message, ProcessCompletedMessage)]


def test_one_client_fills_neither_the_queue_nor_its_address(queue):
    async def main():
        own = [await push(queue, ANN) for _ in range(33)]
        return own, await push(queue, BOB), await push(queue, FAR)

    own, bob, far = apart(main)
    assert [id is not None for id in own] == [True] * 3 + [False] * 30 and bob and far


def test_one_address_does_not_fill_the_queue(queue, monkeypatch):
    waiting = {"client": Capacity(3), "address": Capacity(4), "everyone": Capacity(6)}
    monkeypatch.setattr(event_queue, "WAITING", waiting)

    async def main():
        home = [await push(queue, Client("home", str(number))) for number in range(9)]
        far = [await push(queue, Client("far")) for _ in range(4)]
        return [id is not None for id in (*home, *far)]

    assert apart(main) == [True] * 4 + [False] * 5 + [True] * 2 + [False] * 2


def test_bytes_that_wait_are_bounded_too(queue, monkeypatch):
    monkeypatch.setitem(event_queue.WAITING, "client", Capacity(3, 100))

    async def main():
        return [await push(queue, ANN, "x" * 60), await push(queue, ANN, "x" * 60), await push(queue, BOB, "x" * 60)]

    first, second, other = apart(main)
    assert first and other and second is None


def test_who_was_served_longest_ago_is_next(queue):
    async def main():
        for client in (ANN, ANN, ANN, BOB, BOB, Client("home"), FAR, FAR):
            await push(queue, client)
        return served(queue)

    home = Client("home")
    assert apart(main) == [ANN, FAR, BOB, FAR, home, ANN, BOB, ANN]


def test_new_sessions_do_not_overtake_who_waits(queue):
    async def main():
        await push(queue, BOB)
        first = served(queue)
        await push(queue, BOB)
        for number in range(3):
            await push(queue, Client(BOB.address, f"fresh {number}"))
        return first + served(queue)[:2]

    first, second, _ = apart(main)
    assert first == second == BOB


def test_a_client_that_comes_too_often_is_refused_for_a_while(queue, monkeypatch):
    monkeypatch.setattr(queue._buckets, "take", lambda client, amount: client != ANN)

    async def main():
        return await push(queue, ANN), await push(queue, BOB)

    refused, other = apart(main)
    assert refused is None and other


def test_an_event_that_waited_too_long_is_answered_and_gone(queue):
    async def main():
        old, new = await push(queue, ANN), await push(queue, BOB)
        event = queue.event_ids_to_events[old]
        event.enqueue_time = time.monotonic() - queue.max_wait - 1
        assert served(queue) == [BOB]
        return messages(queue, event), old in queue.event_ids_to_events, new

    answers, kept, _ = apart(main)
    assert [answer["error"] for answer in answers] == [BUSY] and not kept


def test_an_event_that_runs_too_long_is_answered_and_lets_the_next_one_run(queue, monkeypatch):
    ends: list[asyncio.Event] = []

    async def process_events(self, events, batch, begin_time, fn):
        try:
            await ends[0].wait()
            self.send_message(events[0], ProcessCompletedMessage(output={"data": ["late"]}, success=True))
        finally:
            self.event_queue_per_concurrency_id["model"].current_concurrency -= 1

    monkeypatch.setattr(Queue, "process_events", process_events)

    async def main():
        ends.append(asyncio.Event())
        queue.max_run = 0.01
        await push(queue, ANN)
        (event,), batch, _ = queue.get_events()
        places = queue.event_queue_per_concurrency_id["model"]
        places.current_concurrency += 1
        task = asyncio.ensure_future(queue.process_events([event], batch, 0.0, event.fn))
        while event.alive:
            await asyncio.sleep(0.01)
        queue.max_run = 60
        await push(queue, BOB)
        assert served(queue) == [BOB]
        answers = messages(queue, event)
        ends[0].set()
        await task
        return answers, messages(queue, event), places

    answers, late, places = apart(main)
    assert [answer["error"] for answer in answers] == [BUSY] and late == []
    assert (places.concurrency_limit, places.current_concurrency) == (1, 0)


def test_a_job_is_followed_as_long_as_it_runs(queue, monkeypatch):
    async def process_events(self, events, batch, begin_time, fn):
        await asyncio.sleep(0.05)

    monkeypatch.setattr(Queue, "process_events", process_events)

    async def main():
        queue.max_run = 0.01
        await push(queue, ANN, fn=1)
        (event,), batch, _ = queue.get_events()
        await queue.process_events([event], batch, 0.0, event.fn)
        return event.alive

    assert apart(main)


def test_a_cancelled_event_ends(queue, monkeypatch):
    ended = []

    async def process_events(self, events, batch, begin_time, fn):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    monkeypatch.setattr(Queue, "process_events", process_events)

    async def main():
        await push(queue, ANN)
        (event,), batch, _ = queue.get_events()
        task = asyncio.ensure_future(queue.process_events([event], batch, 0.0, event.fn))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    apart(main)
    assert ended == [True]


def test_what_is_kept_of_pages_is_the_own_of_who_opens_many(queue, monkeypatch):
    monkeypatch.setitem(event_queue.PAGES, "client", Capacity(2))
    queue._buckets.take = lambda client, amount: True

    async def main():
        kept = queue.blocks.state_holder.session_data
        for client, page in ((BOB, "bob"), (ANN, "1"), (ANN, "2"), (ANN, "3")):
            await push(queue, client, fn=2, page=page)
            served(queue)
        await push(queue, FAR)  # what is forgotten is no obstacle for others
        return set(kept), set(queue.pending_messages_per_session) & {"bob", "1", "2", "3"}

    assert apart(main) == ({"bob", "2", "3"}, {"bob", "2", "3"})

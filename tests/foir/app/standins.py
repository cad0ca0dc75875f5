"""Stand-ins of the page's tests: clients, a clock, and a thread for what is asynchronous."""

from concurrent.futures import ThreadPoolExecutor

import anyio

from foir.app.clients import Client

ANN, BOB, FAR = Client("home", "ann"), Client("home", "bob"), Client("far", "x")


class Clock:
    """A timer that is set by hand, in seconds."""

    now = 0.0

    def __call__(self):
        return self.now


def apart(call, *given):
    """Run something asynchronous on a thread of its own: the browser of other tests keeps a loop on this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, call, *given).result()

"""A callback turned into a generator: the work runs in a thread, its events come out here.

Used by `VideoSession.stream`. When the reader goes away, the worker is stopped at its next event.
"""

from __future__ import annotations

import queue
import threading
from typing import Any, Callable, Iterator

from sama_plugin.infer.answers import Event


def events_of(work: Callable[[Callable[[Event], None]], Any]) -> Iterator[Event]:
    """Events that `work(emit)` emits, as they come; its error, if it has one, is raised here."""
    events: queue.Queue = queue.Queue()
    abandoned = threading.Event()

    def emit(event: Event) -> None:
        if abandoned.is_set():
            raise _Abandoned
        events.put(event)

    def run() -> None:
        try:
            work(emit)
            events.put(None)
        except _Abandoned:
            return
        except BaseException as error:  # handed to the reader, which raises it
            events.put(error)

    worker = threading.Thread(target=run, name="sama-answer", daemon=True)
    worker.start()
    try:
        while (event := events.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event
    finally:
        abandoned.set()
        worker.join()


class _Abandoned(Exception):
    """The reader of the events went away."""

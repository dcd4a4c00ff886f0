"""Where the trials of a search run: one after another in this thread, or side by side in threads of their own."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

LOOK = 2.0
"""Seconds between looks at how many slots there are, which changes as machines come and go."""


class StoppedError(Exception):
    """A trial ends because its search does; its values are tried again when the search goes on."""


class Slots:
    """Slots for trials that run at once; any number of searches may share them."""

    def __init__(self, count: Callable[[], int]) -> None:
        self.closed = False
        self._count, self._taken = count, 0
        self._changed = threading.Condition()

    def take(self) -> None:
        """Take a slot once one is free; raises StoppedError after `close`."""
        with self._changed:
            while not self.closed and self._taken >= self._count():
                self._changed.wait(LOOK)
            if self.closed:
                raise StoppedError
            self._taken += 1

    def leave(self) -> None:
        """Give a slot back."""
        with self._changed:
            self._taken -= 1
            self._changed.notify()

    def close(self) -> None:
        """End the searches that share the slots."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class Runner(Protocol):
    """Runs the attempts of one search."""

    @property
    def running(self) -> int:
        """How many attempts run in other threads."""

    @property
    def stopped(self) -> bool:
        """Whether attempts shall end, because the search does."""

    def take(self) -> None:
        """Return when another attempt may start; raises what an earlier one raised."""

    def leave(self) -> None:
        """Start none after all."""

    def start(self, attempt: Callable[[], None]) -> None:
        """Run an attempt, after `take`."""

    def wait(self, seconds: float) -> None:
        """Return when an attempt has ended, or after so many seconds."""


class InTurn:
    """Runs each attempt in this thread."""

    running, stopped = 0, False

    def __enter__(self) -> "InTurn":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def take(self) -> None:
        """Return at once: nothing runs."""

    def leave(self) -> None:
        """Nothing was taken."""

    def start(self, attempt: Callable[[], None]) -> None:
        """Return when it has ended."""
        attempt()

    def wait(self, seconds: float) -> None:
        """Wait so many seconds."""
        time.sleep(seconds)


class SideBySide:
    """Runs each attempt in a thread of its own, as many as there are slots."""

    def __init__(self, slots: Slots) -> None:
        self._slots, self._broken_off = slots, False
        self._threads: list[threading.Thread] = []
        self._fault: BaseException | None = None
        self._ended = threading.Event()

    def __enter__(self) -> "SideBySide":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Wait for the attempts; they are told to end where the search was broken off."""
        self._broken_off = bool(kind)
        for thread in self._threads:
            thread.join()
        if self._fault and not kind:
            raise self._fault

    @property
    def running(self) -> int:
        """Threads at work."""
        return sum(thread.is_alive() for thread in self._threads)

    @property
    def stopped(self) -> bool:
        """Whether this search or all that share the slots were broken off."""
        return self._broken_off or self._slots.closed

    def take(self) -> None:
        """Wait for a slot."""
        self._slots.take()
        if self._fault:
            self._slots.leave()
            raise self._fault

    def leave(self) -> None:
        """Give the slot back."""
        self._slots.leave()

    def start(self, attempt: Callable[[], None]) -> None:
        """Return at once."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(threading.Thread(target=self._run, args=(attempt,), daemon=True))
        self._threads[-1].start()

    def wait(self, seconds: float) -> None:
        """Return at once if an attempt has ended since the last call."""
        self._ended.wait(seconds)
        self._ended.clear()

    def _run(self, attempt: Callable[[], None]) -> None:
        try:
            attempt()
        except StoppedError:
            pass
        except BaseException as error:  # raised again in the thread of the search
            self._fault = self._fault or error
        finally:
            self._slots.leave()
            self._ended.set()

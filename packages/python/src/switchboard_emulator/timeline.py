"""The timeline of a call: its events as they happen, and waiting for them."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, List, Optional, TypeVar

Event = Dict[str, Any]
Found = TypeVar("Found")
POLL_S = 0.05


class TimelineError(AssertionError):
    """A call is not as the test expects. The message ends with the timeline as a table."""


class Timeline:
    """The events of one call, in the order in which they came. A thread adds them while a test reads."""

    def __init__(self) -> None:
        self._events: List[Event] = []
        self._cut_off: Optional[str] = None
        self._changed = threading.Condition()

    def add(self, event: Event) -> None:
        """Adds an event of the control API."""
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def close(self, why: str) -> None:
        """Notes that no event follows. Without an event `end`, the timeline was cut off for the reason
        `why`."""
        with self._changed:
            self._cut_off = why
            self._changed.notify_all()

    @property
    def events(self) -> List[Event]:
        """All events so far: `call`, `sent`, `step` and `end`."""
        with self._changed:
            return list(self._events)

    @property
    def steps(self) -> List[Event]:
        """The requests that have ended, and the remarks of the platform, ordered by the time of their
        start."""
        return sorted(self._named("step"), key=lambda step: step["at_ms"])

    @property
    def end(self) -> Optional[Event]:
        """The event `end`; `None` while the call lives."""
        return next(iter(self._named("end")), None)

    def _named(self, name: str) -> List[Event]:
        return [event for event in self.events if event["event"] == name]

    def wait(self, find: Callable[[], Optional[Found]], expected: str, timeout: float) -> Found:
        """Waits until `find` returns a value, and returns that value.

        `find` runs after each event, and every 50 ms. `expected` names its subject in the error. The end of
        the call ends the wait.
        """
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                count, cut_off = len(self._events), self._cut_off
            ended = self.end is not None
            found = find()
            if found is not None:
                return found
            if ended:
                raise self.error(f"the call ended without {expected}")
            if cut_off is not None:
                raise self.error(f"the timeline was cut off before {expected}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise self.error(f"no {expected} within {timeout:g} s")
            with self._changed:
                self._changed.wait_for(
                    lambda: len(self._events) > count or self._cut_off is not None, min(left, POLL_S)
                )

    def error(self, problem: str) -> TimelineError:
        """Returns the error for a problem, with the timeline."""
        return TimelineError(f"{problem}\n\n{self}")

    def __str__(self) -> str:
        rows = [(step["at_ms"], step_row(step)) for step in self.steps]
        ended = {(step["message_id"], step["at_ms"]) for step in self.steps}
        for sent in self._named("sent"):
            if (sent["message_id"], sent["at_ms"]) not in ended:
                rows.append((sent["at_ms"], row(sent, "->", "...", "", None)))
        heading = f"{'time':>11}     {'what':<24} {'status':>6} {'took':>10}  where"
        lines = [heading, *(text for _, text in sorted(rows)), "", self._verdict()]
        return "\n".join(printable(line) for line in lines)

    def _verdict(self) -> str:
        end = self.end
        if end is not None:
            took = milliseconds(end["took_ms"])
            return f"{'ok' if end['ok'] else 'not ok'}: {end['outcome']} after {took}: {end['reason']}"
        if self._cut_off is not None:
            return f"cut off: {self._cut_off}"
        return "the call goes on"


def step_row(step: Event) -> str:
    status = "-" if step["status"] is None else str(step["status"])
    if step["received"]:
        return row(step, "<-", status, "", step["note"])
    # A step without a message id posted nothing. It is a remark.
    took = "" if step["message_id"] is None else milliseconds(step["took_ms"])
    return row(step, "->", status, took, step["note"])


def row(event: Event, direction: str, status: str, took: str, note: Optional[str]) -> str:
    what = event["what"] if event["attempt"] < 2 else f"{event['what']} #{event['attempt']}"
    at = milliseconds(event["at_ms"])
    text = f"{at:>11}  {direction} {what:<24} {status:>6} {took:>10}  {event['url']}"
    return text if note is None else f"{text}  {note}"


def milliseconds(number: float) -> str:
    return f"{number:.1f} ms"


def printable(text: str) -> str:
    """Replaces control characters, which a bot can send and a terminal obeys."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)

"""A call of the emulator, as a test drives and checks it."""

from __future__ import annotations

import threading
from typing import Any, Dict, Iterator, List, Optional

from .control import Control, ControlError
from .timeline import Event, Timeline

TONES = {"*": "star", "#": "pound"}


class Call:
    """One call: its id, its timeline, and the steps that a test plays in it."""

    def __init__(self, control: Control, call_id: str) -> None:
        self._control = control
        self._path = f"/emulator/calls/{call_id}"
        self.id = call_id
        """The call id, as in the paths of Graph."""
        self.timeline = Timeline()
        """The events so far. `str(call.timeline)` is a table."""
        events = control.events(f"{self._path}/events")
        threading.Thread(target=self._read, args=(events,), daemon=True).start()

    def _read(self, events: Iterator[Event]) -> None:
        why = "the emulator closed the stream"
        try:
            for event in events:
                self.timeline.add(event)
        except (ControlError, ValueError) as error:
            why = str(error)
        self.timeline.close(why)

    @property
    def steps(self) -> List[Event]:
        """The requests that have ended, ordered by the time of their start. Each is an event of the control
        API.

        `what` is its name, `received` is true for a request of the bot, `status` is that of the response.
        `request` and `response` have `headers` and `body`.
        """
        return self.timeline.steps

    def details(self) -> Dict[str, Any]:
        """Returns the call as the control API shows it: `call` (with `state`), `participants`, `operations`,
        `recordings` and `events`."""
        details: Dict[str, Any] = self._control.request("GET", self._path)
        return details

    # What the other side does.

    def play_step(self, do: str, **members: Any) -> None:
        """Plays one step of a script, like `play_step("operation", operation="playPrompt")`."""
        self._control.request("POST", f"{self._path}/steps", {"do": do, **members})

    def press(self, tone: object) -> None:
        """Presses a key of a telephone: 0 to 9, `*` or `#`."""
        self.play_step("tone", tone=TONES.get(str(tone), str(tone)))

    def speak(self, duration: str) -> None:
        """Speaks for a while, like `"2s"`, into the recording that goes on, or else into the next one."""
        self.play_step("speak", **{"for": duration})

    def join(self, participants: int = 1) -> None:
        """Lets people join."""
        self.play_step("join", participants=participants)

    def leave(self, participants: int = 1) -> None:
        """Lets people leave."""
        self.play_step("leave", participants=participants)

    def mute(self, participant: int = 0) -> None:
        """Lets a person mute the own microphone. People are numbered in the order of joining; 0 is the
        caller."""
        self.play_step("mute", participant=participant)

    def unmute(self, participant: int = 0) -> None:
        """Lets a person unmute the own microphone."""
        self.play_step("unmute", participant=participant)

    def hold(self) -> None:
        """Puts the call on hold."""
        self.play_step("hold")

    def resume(self) -> None:
        """Ends the hold."""
        self.play_step("resume")

    def hang_up(self, code: int = 200, subcode: int = 0, message: str = "") -> None:
        """Hangs up. `code`, `subcode` and `message` are the `resultInfo` that the bot gets."""
        self.play_step("terminate", code=code, subcode=subcode, message=message)

    def forget(self) -> None:
        """Ends the call if it lives, and removes it from the emulator. A call that is not there is no
        error."""
        try:
            self._control.request("DELETE", self._path)
        except ControlError as error:
            if error.status != 404:
                raise

    # What the test waits for.

    def wait_for_step(
        self, what: str, *, status: Optional[int] = None, times: int = 1, timeout: float = 10.0
    ) -> Event:
        """Waits for a step, and returns it.

        `what` is its name in the timeline, like `established`; `status` the status of its response. With
        `times=2` it waits for the second one.
        """

        def find() -> Optional[Event]:
            steps = [step for step in self.steps if step["what"] == what]
            steps = [step for step in steps if status is None or step["status"] == status]
            return steps[times - 1] if len(steps) >= times else None

        with_status = "" if status is None else f" with status {status}"
        of_times = "" if times == 1 else f", {times} times"
        return self.timeline.wait(find, f'step "{what}"{with_status}{of_times}', timeout)

    def wait_for_state(self, *states: str, timeout: float = 10.0) -> str:
        """Waits until the call is in one of these states, like `established`, and returns the state."""

        def find() -> Optional[str]:
            state: str = self.details()["call"]["state"]
            return state if state in states else None

        return self.timeline.wait(find, f"state {' or '.join(states)}", timeout)

    def wait_for_end(self, *, timeout: float = 30.0) -> Event:
        """Waits for the end of the call, and returns the event `end`, with `outcome`, `ok` and `reason`."""
        return self.timeline.wait(lambda: self.timeline.end, "end of the call", timeout)

    # What the test checks.

    def assert_steps(self, *expected: str) -> None:
        """Checks that these steps happened in this order. Other steps may be between them."""
        names = iter([step["what"] for step in self.steps])
        for what in expected:
            # The search goes on after the step that it found last.
            if what not in names:
                raise self.timeline.error(f'no step "{what}" in the order {", ".join(expected)}')

    def assert_no_step(self, what: str) -> None:
        """Checks that no such step has happened so far."""
        if any(step["what"] == what for step in self.steps):
            raise self.timeline.error(f'unexpected step "{what}"')

    def assert_end(self, outcome: str = "completed", *, timeout: float = 30.0) -> Event:
        """Waits for the end, checks its outcome, and returns the event `end`."""
        end = self.wait_for_end(timeout=timeout)
        if end["outcome"] != outcome:
            raise self.timeline.error(f"the outcome is {end['outcome']}, not {outcome}")
        return end

    def __repr__(self) -> str:
        return f"<Call {self.id}>"

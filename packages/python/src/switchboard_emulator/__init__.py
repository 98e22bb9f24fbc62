"""Tests of Microsoft Teams calling bots, against the Switchboard emulator.

`Emulator` starts the emulator or connects to a running one. Its `place_call` places a call to a bot and
returns a `Call`, which waits for the steps of the call and checks them. With pytest, the fixtures `emulator`,
`place_call` and `set_faults` need no import.
"""

from .call import Call
from .control import ControlError
from .emulator import DEFAULT_APP, Emulator
from .process import EmulatorStartError, find_binary
from .timeline import Timeline, TimelineError

__all__ = [
    "DEFAULT_APP",
    "Call",
    "ControlError",
    "Emulator",
    "EmulatorStartError",
    "Timeline",
    "TimelineError",
    "find_binary",
]

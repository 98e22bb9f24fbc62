"""The pytest plugin: the fixtures `emulator`, `place_call` and `set_faults`, and timelines in failure
reports."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, Generator, Iterator, List

import pytest

from .call import Call
from .emulator import Emulator

URL_VARIABLE = "SWITCHBOARD_EMULATOR_PLATFORM"
CA_VARIABLE = "SWITCHBOARD_EMULATOR_CA"
CALLS = pytest.StashKey[List[Call]]()


@pytest.fixture(scope="session")
def emulator_settings() -> Dict[str, Any]:
    """The arguments of `Emulator.start`. Override this fixture to change them."""
    return {}


@pytest.fixture(scope="session")
def emulator(emulator_settings: Dict[str, Any]) -> Iterator[Emulator]:
    """An emulator for all tests: the one at `SWITCHBOARD_EMULATOR_PLATFORM` if set, else one that is
    started."""
    url = os.environ.get(URL_VARIABLE)
    if url:
        yield Emulator.connect(url, ca=os.environ.get(CA_VARIABLE))
        return
    with Emulator.start(**emulator_settings) as started:
        yield started


@pytest.fixture
def place_call(emulator: Emulator, request: pytest.FixtureRequest) -> Iterator[Callable[..., Call]]:
    """`Emulator.place_call`. After the test its calls are ended and forgotten."""
    calls = request.node.stash[CALLS] = []

    def place(to: str, **options: Any) -> Call:
        call = emulator.place_call(to, **options)
        calls.append(call)
        return call

    yield place
    for call in calls:
        call.forget()


@pytest.fixture
def set_faults(emulator: Emulator) -> Iterator[Callable[..., None]]:
    """`Emulator.set_faults`. After the test the faults are as before."""
    before = emulator.faults()
    yield emulator.set_faults
    emulator.set_faults(**before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Adds the timelines of the calls of `place_call` to the report of a failed test."""
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        for call in item.stash.get(CALLS, []):
            report.sections.append((f"timeline of call {call.id}", str(call.timeline)))

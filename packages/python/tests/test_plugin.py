"""The pytest plugin: what its fixtures undo, and what a failed test shows."""

import os
import signal
import subprocess
import sys

CONFTEST = """
import pytest
from bot import Bot

@pytest.fixture
def bot(emulator):
    running = Bot(emulator.addresses["graph"])
    yield running
    running.stop()
"""


def prepare(pytester, request, monkeypatch, code):
    folders = [str(request.path.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(code)


def run(pytester, request, monkeypatch, code):
    prepare(pytester, request, monkeypatch, code)
    return pytester.runpytest_subprocess()


def test_calls_and_faults_end_with_their_test(pytester, request, monkeypatch):
    result = run(
        pytester,
        request,
        monkeypatch,
        """
        def test_one(emulator, place_call, bot):
            emulator.set_faults(clock="+1m")
            place_call(bot.url).wait_for_state("established")

        def test_two(emulator, set_faults):
            assert emulator.calls() == []
            set_faults(clock=None, graph="7504")
            set_faults(login="7000215")

        def test_three(emulator):
            active = {name: value for name, value in emulator.faults().items() if value is not None}
            assert active == {"clock": "+1m"}
        """,
    )
    result.assert_outcomes(passed=3)


def test_a_failed_test_shows_the_timelines_of_its_calls(pytester, request, monkeypatch):
    result = run(
        pytester,
        request,
        monkeypatch,
        """
        def test_tones(place_call, bot):
            call = place_call(bot.url)
            call.wait_for_step("established")
            assert bot.tones == [5]
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*timeline of call *", "*<- answer*202*", "*-> established*"])


def test_settings_and_a_running_emulator(pytester, request, monkeypatch, emulator):
    code = """
        import os
        import pytest

        @pytest.fixture(scope="session")
        def emulator_settings():
            return {"app": "1efc74f7-41c3-47a4-8775-7259bfef4241"}

        def test_app(emulator):
            assert emulator.app.startswith("1efc") == ("SWITCHBOARD_EMULATOR_PLATFORM" not in os.environ)
    """
    run(pytester, request, monkeypatch, code).assert_outcomes(passed=1)
    monkeypatch.setenv("SWITCHBOARD_EMULATOR_PLATFORM", emulator.origin)
    run(pytester, request, monkeypatch, code).assert_outcomes(passed=1)


def test_ctrl_c_cleans_up_and_leaves_no_emulator(pytester, request, monkeypatch):
    code = """
        import time

        def test_forever(emulator, place_call, set_faults, bot):
            place_call(bot.url)
            print("\\nemulator", emulator._process.id, flush=True)
            time.sleep(60)
    """
    prepare(pytester, request, monkeypatch, code)
    # A terminal sends the signal to all processes of the group.
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-s"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with run:
        pid = next(int(line.split()[1]) for line in run.stdout if line.startswith("emulator "))
        os.killpg(run.pid, signal.SIGINT)
        rest = run.stdout.read()
    assert run.returncode == 2, rest
    assert "KeyboardInterrupt" in rest and "ControlError" not in rest
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    raise AssertionError(f"the emulator {pid} still runs")

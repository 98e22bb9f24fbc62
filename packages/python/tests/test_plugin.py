"""The pytest plugin: what its fixtures undo, and what a failed test shows."""

CONFTEST = """
import pytest
from bot import Bot

@pytest.fixture
def bot(emulator):
    running = Bot(emulator.addresses["graph"])
    yield running
    running.stop()
"""


def run(pytester, request, monkeypatch, code, *options):
    monkeypatch.setenv("PYTHONPATH", str(request.path.parent))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(code)
    return pytester.runpytest_subprocess(*options)


def test_calls_and_faults_end_with_their_test(pytester, request, monkeypatch):
    result = run(
        pytester,
        request,
        monkeypatch,
        """
        def test_one(emulator, place_call, set_faults, bot):
            emulator.set_faults(clock="+1m")
            place_call(bot.url).wait_for_state("established")

        def test_two(emulator, set_faults):
            assert emulator.calls() == []
            set_faults(clock=None, graph="7504")
            set_faults(login="7000215")

        def test_three(emulator):
            active = {name: value for name, value in emulator.faults().items() if value is not None}
            assert active == {"clock": "+1m"} or active == {}
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

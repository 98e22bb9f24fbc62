"""The process of the emulator: its start, and its end in each case."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from switchboard_emulator import ControlError, Emulator, EmulatorStartError, find_binary

LIMIT_S = 20

KEEPS_RUNNING = """
import time
from switchboard_emulator import Emulator
print(Emulator.start().origin, flush=True)
time.sleep(60)
"""


def is_up(origin):
    try:
        Emulator.connect(origin)
    except ControlError:
        return False
    return True


def assert_goes_down(origin):
    deadline = time.monotonic() + LIMIT_S
    while is_up(origin):
        assert time.monotonic() < deadline, f"the emulator at {origin} still runs"
        time.sleep(0.05)


def test_stop_ends_the_emulator():
    emulator = Emulator.start()
    assert is_up(emulator.origin)
    emulator.stop()
    assert not is_up(emulator.origin)
    emulator.stop()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_emulator(how):
    run = subprocess.Popen(
        [sys.executable, "-c", KEEPS_RUNNING], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with run:
        origin = run.stdout.readline().strip()
        assert is_up(origin)
        run.send_signal(how)
        run.wait(LIMIT_S)
    assert_goes_down(origin)


def test_a_run_that_never_stops_it_leaves_no_emulator():
    code = "from switchboard_emulator import Emulator; print(Emulator.start().origin)"
    origin = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert_goes_down(origin.strip())


def test_a_taken_port_is_named(emulator):
    taken = urlsplit(emulator.origin).netloc
    with pytest.raises(EmulatorStartError, match=f"{taken}.*choose another address or port with --listen"):
        Emulator.start(listen=taken)


def test_an_unknown_option_is_named():
    with pytest.raises(EmulatorStartError, match="unexpected argument '--answer'"):
        Emulator.start(options=["--answer"])


def test_a_program_that_prints_nothing_is_given_up(tmp_path):
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    with pytest.raises(EmulatorStartError, match="printed no addresses within 0.2 s"):
        Emulator.start(binary=str(silent), timeout=0.2)


def test_a_file_that_is_no_program(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/none\n")
    broken.chmod(0o755)
    with pytest.raises(EmulatorStartError, match=f"cannot start {broken}"):
        Emulator.start(binary=str(broken))


def test_a_missing_emulator_is_named(monkeypatch, tmp_path):
    with pytest.raises(EmulatorStartError, match="binary is not a program: /none"):
        Emulator.start(binary="/none")
    monkeypatch.setenv("SWITCHBOARD_EMULATOR", "/none")
    with pytest.raises(EmulatorStartError, match="SWITCHBOARD_EMULATOR is not a program: /none"):
        Emulator.start()
    monkeypatch.delenv("SWITCHBOARD_EMULATOR")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("switchboard_emulator.process.__file__", str(tmp_path / "process.py"))
    with pytest.raises(EmulatorStartError, match="switchboard-emulator is not in PATH; build it"):
        find_binary()


def test_the_variable_goes_before_path_and_path_before_the_debug_build(monkeypatch, tmp_path):
    def program(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return str(path)

    (tmp_path / "crates/emulator").mkdir(parents=True)
    (tmp_path / "crates/emulator/Cargo.toml").touch()
    debug = program(tmp_path / "target/debug/switchboard-emulator")
    in_path = program(tmp_path / "bin/switchboard-emulator")
    named = program(tmp_path / "named")
    monkeypatch.setattr("switchboard_emulator.process.__file__", str(tmp_path / "any/process.py"))
    monkeypatch.setenv("PATH", str(Path(in_path).parent))
    monkeypatch.setenv("SWITCHBOARD_EMULATOR", named)
    assert find_binary() == named
    monkeypatch.delenv("SWITCHBOARD_EMULATOR")
    assert find_binary() == in_path
    monkeypatch.setenv("PATH", os.devnull)
    assert find_binary() == debug

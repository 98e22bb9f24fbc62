"""The process of the emulator: the place of its program, its start, and its end."""

from __future__ import annotations

import atexit
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional

VARIABLE = "SWITCHBOARD_EMULATOR"
PROGRAM = "switchboard-emulator"
STOP_TIMEOUT_S = 5
COMPLAINT_BYTES_MAX = 4096


class EmulatorStartError(Exception):
    """The emulator is not installed, or did not start."""


def find_binary(binary: Optional[str] = None) -> str:
    """Returns the path of the emulator's program.

    It is the argument, else the variable `SWITCHBOARD_EMULATOR`, else the program in `PATH`, else the debug
    build of the clone of Switchboard that has this package or the working folder in it.
    """
    for source, given in (("binary", binary), (VARIABLE, os.environ.get(VARIABLE))):
        if given:
            found = shutil.which(given)
            if found is None:
                raise EmulatorStartError(f"{source} is not a program: {given}")
            return found
    found = shutil.which(PROGRAM)
    if found is not None:
        return found
    here = Path.cwd() / "any"
    for folder in [*Path(__file__).resolve().parents, *here.parents]:
        if (folder / "crates" / "emulator" / "Cargo.toml").is_file():
            found = shutil.which(str(folder / "target" / "debug" / PROGRAM))
            if found is not None:
                return found
    raise EmulatorStartError(
        f"{PROGRAM} is not in PATH; build it (cargo build -p {PROGRAM}), "
        f"or name it in the variable {VARIABLE}"
    )


class EmulatorProcess:
    """The running emulator.

    It is the child of its own `guard`, which ends it when stdin closes. That happens when this process ends,
    in whatever way. The session of its own keeps Ctrl-C from the emulator until the tests have cleaned up.
    """

    def __init__(self, binary: str, arguments: List[str], timeout: float) -> None:
        self._errors = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                [binary, "guard", "--", binary, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise EmulatorStartError(f"cannot start {binary}: {error}") from error
        atexit.register(self.stop)
        try:
            self.document = self._read_document(timeout)
            """The addresses that the emulator printed."""
        except BaseException:
            self.stop()
            raise

    @property
    def id(self) -> int:
        """The process id of the guard."""
        return self._process.pid

    def _read_document(self, timeout: float) -> Dict[str, Any]:
        lines: "queue.Queue[bytes]" = queue.Queue()
        output = self._process.stdout
        assert output is not None, "stdout is a pipe"
        threading.Thread(target=lambda: lines.put(output.readline()), daemon=True).start()
        try:
            line = lines.get(timeout=timeout)
        except queue.Empty:
            raise EmulatorStartError(f"the emulator printed no addresses within {timeout:g} s") from None
        try:
            document: Dict[str, Any] = json.loads(line)
            return document
        except ValueError:
            raise EmulatorStartError(f"the emulator did not start: {self._complaint()}") from None

    def _complaint(self) -> str:
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        self._errors.seek(0)
        text = self._errors.read(COMPLAINT_BYTES_MAX).decode(errors="replace")
        return text.strip() or "no error was printed"

    def stop(self) -> None:
        """Ends the process. Does nothing if it has ended."""
        atexit.unregister(self.stop)
        if self._process.stdin is not None:
            self._process.stdin.close()
        # A fork of this process may hold the other end of stdin open.
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

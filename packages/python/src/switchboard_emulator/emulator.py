"""The emulator, as a test starts it and drives it."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional, Sequence
from urllib.parse import urlencode

from .call import Call
from .control import Control
from .process import EmulatorProcess, find_binary

DEFAULT_APP = "0efc74f7-41c3-47a4-8775-7259bfef4241"
"""The app id that the commands of the emulator have by default."""

POLL_S = 0.05


class Emulator:
    """A running emulator. Made by `Emulator.start` or `Emulator.connect`; a context manager that stops it."""

    def __init__(self, control: Control, app: str, process: Optional[EmulatorProcess] = None) -> None:
        self._control = control
        self._process = process
        self.app = app
        """The id of the app that calls are for."""
        index = control.request("GET", "/emulator")
        self.origin = control.origin
        """The scheme, host and port."""
        self.addresses: Dict[str, str] = {
            name: value for name, value in index.items() if isinstance(value, str)
        }
        """The URLs that a bot's settings need, by name, like `graph`, `skype_metadata` and
        `token_endpoint`."""
        self.identity_variables: Dict[str, str] = index["identity_variables"]
        """The environment variables for a bot with a managed identity."""
        self.ca: Optional[str] = None if process is None else process.document.get("ca")
        """The file of the certificate authority to trust, if the emulator was started with `--tls`."""

    @classmethod
    def start(
        cls,
        *,
        app: str = DEFAULT_APP,
        secret: Optional[str] = None,
        listen: str = "127.0.0.1:0",
        options: Sequence[str] = (),
        binary: Optional[str] = None,
        timeout: float = 30.0,
    ) -> Emulator:
        """Starts an emulator, on a free port by default, and waits until it listens.

        With `secret`, Graph requires a token of the app. `options` are further options of
        `switchboard-emulator serve`. The emulator ends with `stop`, and at the latest with this process.
        """
        arguments = ["serve", "--json", "--listen", listen, "--app-id", app]
        if secret is not None:
            arguments += ["--secret", secret]
        process = EmulatorProcess(find_binary(binary), [*arguments, *options], timeout)
        try:
            control = Control(process.document["origin"], process.document.get("ca"))
            return cls(control, app, process)
        except BaseException:
            process.stop()
            raise

    @classmethod
    def connect(cls, url: str, *, app: str = DEFAULT_APP, ca: Optional[str] = None) -> Emulator:
        """Connects to a running emulator. With https, `ca` is the file of the certificate authority."""
        return cls(Control(url, ca), app)

    def stop(self) -> None:
        """Stops the emulator if `start` started it."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Calls.

    def place_call(self, to: str, **options: Any) -> Call:
        """Places a call to the bot at the URL `to`, and returns it at once.

        The options are those of `switchboard-emulator call`, spelled as in the control API: `kind`,
        `duration`, `participants`, `answer_within`, `script`, `token`, `expect` and more. By default the call
        lasts until a side hangs up, at most an hour.
        """
        body = {"app": self.app, "duration": "1h", "to": to, **options}
        placed = self._control.first_line("/emulator/calls", body)
        return Call(self._control, placed["call"])

    def calls(self) -> List[Dict[str, Any]]:
        """Returns the summaries of all calls, the newest first. `follow_call` takes their `call`."""
        calls: List[Dict[str, Any]] = self._control.request("GET", "/emulator/calls")["calls"]
        return calls

    def follow_call(self, call_id: str) -> Call:
        """Returns a call by its id, for example one that the bot created."""
        return Call(self._control, call_id)

    def wait_for_call(self, *, timeout: float = 10.0, **members: Any) -> Call:
        """Waits for a call whose summary has these members, like `direction="outgoing"`; returns the newest
        one."""
        deadline = time.monotonic() + timeout
        while True:
            calls = self.calls()
            for call in calls:
                if all(call.get(name) == value for name, value in members.items()):
                    return self.follow_call(call["call"])
            if time.monotonic() >= deadline:
                raise AssertionError(f"no call with {members} within {timeout:g} s; the calls are {calls}")
            time.sleep(POLL_S)

    def forget_calls(self) -> None:
        """Ends all calls, and removes them from the emulator."""
        self._control.request("DELETE", "/emulator/calls")

    # Faults, keys and tokens.

    def faults(self) -> Dict[str, Optional[str]]:
        """Returns all faults by name; `None` is a fault that is not active."""
        faults: Dict[str, Optional[str]] = self._control.request("GET", "/emulator/faults")
        return faults

    def set_faults(self, **faults: object) -> None:
        """Sets faults, like `set_faults(graph="429:1*2", duplicate=0.5)`. `None` ends one. The others
        stay."""
        self._control.request("PATCH", "/emulator/faults", faults)

    def clear_faults(self) -> None:
        """Ends all faults."""
        self._control.request("DELETE", "/emulator/faults")

    def rotate_keys(self, issuer: str = "skype", **options: str) -> str:
        """Rotates the keys of `skype` or `entra`, and returns the id of the new key.

        The options are `publish_before="10m"` and `overlap="false"`.
        """
        query = urlencode({"issuer": issuer, **options})
        rotated: Dict[str, Any] = self._control.request("POST", f"/emulator/rotate?{query}")
        return str(rotated["kid"])

    def make_token(self, kind: str = "skype", **options: Any) -> str:
        """Makes the token of a notification, good or flawed, like `entra-v2` or `expired`.

        The options are `app`, `tenant`, and `overrides`, a dictionary of claims.
        """
        token = self._control.request("POST", "/emulator/token", {"app": self.app, "kind": kind, **options})
        return str(token["token"])

    def __repr__(self) -> str:
        return f"<Emulator {self.origin}>"

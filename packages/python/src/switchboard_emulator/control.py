"""The control API: requests, and streams of events."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from typing import Any, Dict, Iterator, Optional
from urllib.parse import urlsplit

TIMEOUT_S = 30
ERROR_BYTES_MAX = 4096


class ControlError(Exception):
    """The emulator refused a request, or cannot be reached.

    `status` is the status of the response, `None` without a response. `code` is the code of the error in its
    body.
    """

    def __init__(self, message: str, status: Optional[int] = None, code: Optional[str] = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Control:
    """The control API of one emulator."""

    def __init__(self, origin: str, ca: Optional[str] = None) -> None:
        self.origin = origin.rstrip("/")
        url = urlsplit(self.origin)
        if url.scheme not in ("http", "https") or url.hostname is None:
            raise ValueError(f"not the URL of an emulator: {origin}")
        self._host, self._port = url.hostname, url.port
        self._tls = ssl.create_default_context(cafile=ca) if url.scheme == "https" else None

    def request(self, method: str, path: str, body: Optional[Dict[str, Any]] = None) -> Any:
        """Sends a request, and returns the JSON of the response; `None` if it has no body."""
        with self._open(method, path, body) as response:
            text = response.read()
        return json.loads(text) if text else None

    def first_line(self, path: str, body: Dict[str, Any]) -> Any:
        """Posts a body, and returns the first line of a response of JSON lines. The rest is not read."""
        with self._open("POST", path, body) as response:
            return json.loads(response.readline())

    def events(self, path: str) -> Iterator[Dict[str, Any]]:
        """Opens a stream of server-sent events, and returns their data one by one."""
        stack = contextlib.ExitStack()
        response = stack.enter_context(self._open("GET", path))
        return read_events(stack, response)

    @contextlib.contextmanager
    def _open(
        self, method: str, path: str, body: Optional[Dict[str, Any]] = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Sends a request. The errors of the connection are `ControlError`, also those of the reader."""
        if self._tls is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        else:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_S, context=self._tls
            )
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            content = None if body is None else json.dumps(body)
            connection.request(method, path, body=content, headers=headers)
            response = connection.getresponse()
            if response.status >= 400:
                raise refusal(f"{method} {path}", response)
            yield response
        except (OSError, http.client.HTTPException) as error:
            raise ControlError(f"cannot reach the emulator at {self.origin}: {error}") from error
        finally:
            connection.close()


def read_events(
    stack: contextlib.ExitStack, response: http.client.HTTPResponse
) -> Iterator[Dict[str, Any]]:
    # The emulator sends a comment every 15 s, so a silent stream is broken and ends by the timeout.
    with stack:
        for line in response:
            if line.startswith(b"data: "):
                yield json.loads(line[len(b"data: ") :])


def refusal(request: str, response: http.client.HTTPResponse) -> ControlError:
    text = response.read(ERROR_BYTES_MAX)
    try:
        error = json.loads(text)["error"]
        code, message = error["code"], error["message"]
    except (ValueError, KeyError, TypeError):
        code, message = None, text.decode(errors="replace")
    return ControlError(f"{request}: {response.status} {code}: {message}", response.status, code)

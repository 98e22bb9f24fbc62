"""Writes the file of `[fleet.file]`, for the scripts beside this one. Python 3.9 or later, no packages."""

import argparse
import http.client
import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request

BYTES_MAX = 64 << 20
"""The largest response: 20,000 machines with their network interfaces."""

SECONDS_MAX = 30
"""The longest response. A server that sends a byte now and then must not stop the script."""


class SourceError(Exception):
    """The instances cannot be listed. The file stays as it is."""


def get_json(url, headers=None, timeout=10, context=None):
    """The JSON at a URL. Follows no redirect: a token in a header must not go elsewhere."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), NoRedirect(), urllib.request.HTTPSHandler(context=context)
    )
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with opener.open(request, timeout=timeout) as response:
            body = read_within(response, SECONDS_MAX)
    except urllib.error.HTTPError as error:
        raise SourceError(f"{without_query(url)}: status {error.code}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SourceError(f"{without_query(url)}: {error}") from None
    if len(body) > BYTES_MAX:
        raise SourceError(f"{without_query(url)}: more than {BYTES_MAX} bytes")
    try:
        return json.loads(body)
    except ValueError as error:
        raise SourceError(f"{without_query(url)}: not JSON: {error}") from None


def read_within(response, seconds):
    """The body, at most one byte more than allowed. `timeout` is for each read only."""
    end = time.monotonic() + seconds
    body = b""
    while len(body) <= BYTES_MAX:
        part = response.read1(1 << 16)
        if not part:
            break
        body += part
        if time.monotonic() > end:
            raise OSError(f"no complete response in {seconds} s")
    return body


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error."""

    def redirect_request(self, *_):
        return None


def without_query(url):
    return url.split("?", 1)[0]


def replace(path, instances, mode=0o644):
    """Replaces the file by a rename, so that no reader sees a part of it."""
    instances = sorted(instances, key=lambda instance: instance["name"])
    text = json.dumps(instances, indent=2) + "\n"
    folder, name = os.path.split(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def parser(description):
    """The options that all scripts have."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--output", required=True, help="the file of [fleet.file], which ends in .json")
    options.add_argument("--interval", type=float, default=5, help="seconds between two lists (default: 5)")
    options.add_argument("--once", action="store_true", help="write the file once; exit 1 if that fails")
    return options


def report(error, last_error):
    """Prints an error that is news."""
    if error != last_error:
        print(f"keeping the old file: {error}", file=sys.stderr)
    return error


def run(options, instances):
    """Writes the file of `instances()` at each interval. An error leaves the file as it is."""
    last_error = None
    while True:
        try:
            replace(options.output, instances())
            if last_error is not None:
                print("the instances are listed again", file=sys.stderr)
            last_error = None
        except (SourceError, OSError) as error:
            last_error = report(str(error), last_error)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            last_error = report(f"a response has another form than documented: {error!r}", last_error)
        if options.once:
            return 0 if last_error is None else 1
        time.sleep(options.interval)

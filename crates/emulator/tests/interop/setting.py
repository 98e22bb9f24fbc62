"""Settings and helpers of every script: the address of the emulator, and the identity of the app."""

import json
import os
import threading
import urllib.request
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ORIGIN = os.environ["EMULATOR_ORIGIN"]
CA = os.environ["EMULATOR_CA"]
APP = os.environ["EMULATOR_APP"]
SECRET = os.environ["EMULATOR_SECRET"]
TENANT = os.environ["EMULATOR_TENANT"]
CERTIFICATE = os.environ["EMULATOR_CERTIFICATE"]
KEY = os.environ["EMULATOR_KEY"]
GRAPH_SCOPE = "https://graph.microsoft.com/.default"


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def post(path, body):
    """Sends a request to the control API. The caller reads the response."""
    request = urllib.request.Request(
        ORIGIN + path, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    return urllib.request.urlopen(request, context=ssl.create_default_context(cafile=CA), timeout=20)


def identity_variables():
    """The environment variables that lead client libraries to the managed identity endpoint."""
    context = ssl.create_default_context(cafile=CA)
    with urllib.request.urlopen(f"{ORIGIN}/emulator", context=context, timeout=20) as response:
        return json.load(response)["identity_variables"]


class Webhook(BaseHTTPRequestHandler):
    """Asks for the Graph form of a legacy notification, and accepts the rest."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(202 if "value" in body else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


def place_call():
    """Places a call that lasts until it is hung up: its id, its later events, the URL it is posted to."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/api/calls"
    events = post("/emulator/calls", {"to": url, "app": APP, "tenant": TENANT, "duration": "1h"})
    return json.loads(events.readline())["call"], events, url


def ok(what):
    print(f"  {what}", flush=True)

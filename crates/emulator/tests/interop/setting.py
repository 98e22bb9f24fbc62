"""Settings and helpers of every script: the address of the emulator, and the identity of the app."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from switchboard_emulator import Emulator

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


EMULATOR = Emulator.connect(ORIGIN, app=APP, ca=CA)


class Webhook(BaseHTTPRequestHandler):
    """Asks for the Graph form of a legacy notification, and accepts the rest."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(202 if "value" in body else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


def place_call():
    """Places a call that lasts until it is hung up: its id, the call, the URL that it is posted to."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/api/calls"
    call = EMULATOR.place_call(url, tenant=TENANT)
    return call.id, call, url


def ok(what):
    print(f"  {what}", flush=True)

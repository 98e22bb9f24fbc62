"""A bot for the tests: answers every call, and hangs up when the caller presses 5."""

import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TIMEOUT_S = 10


class Bot:
    """A webhook on a free port, and the requests to Graph that it causes."""

    def __init__(self, graph, answers=True):
        self.graph = graph
        self.answers = answers
        self.tones = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/calls"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def hear(self, item):
        """Notes a tone. The platform sends the next one after the response to this one."""
        call = item["resourceData"]
        if isinstance(call, dict) and "toneInfo" in call:
            self.tones.append(call["toneInfo"]["tone"])

    def receive(self, item):
        call = item["resourceData"]
        if not isinstance(call, dict):
            return
        path = f"{self.graph}/communications/calls/{item['resource'].split('/')[3]}"
        if call.get("state") == "incoming" and item["changeType"] == "created" and self.answers:
            media = {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"}
            answer = {"callbackUri": self.url, "acceptedModalities": ["audio"], "mediaConfig": media}
            send("POST", f"{path}/answer", answer)
        if call.get("toneInfo", {}).get("tone") == "tone5":
            send("DELETE", path)

    def create_call(self, app, tenant):
        """Calls a person, as a bot that dials out does."""
        user = {"@odata.type": "#microsoft.graph.identity", "id": "550fae72-d251-43ec-868c-373732c2704f"}
        identity = {"@odata.type": "#microsoft.graph.identitySet", "user": user}
        call = {
            "@odata.type": "#microsoft.graph.call",
            "callbackUri": self.url,
            "targets": [{"@odata.type": "#microsoft.graph.invitationParticipantInfo", "identity": identity}],
            "requestedModalities": ["audio"],
            "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
            "tenantId": tenant,
            "source": {
                "@odata.type": "#microsoft.graph.participantInfo",
                "identity": {
                    "@odata.type": "#microsoft.graph.identitySet",
                    "application": {"@odata.type": "#microsoft.graph.identity", "id": app},
                },
            },
        }
        return send("POST", f"{self.graph}/communications/calls", call)["id"]


def send(method, url, body=None):
    content = None if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=content, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            text = response.read()
    except urllib.error.HTTPError as error:
        # A fault of the emulator. The timeline has it.
        error.close()
        return None
    return json.loads(text) if text else None


def handler(bot):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for item in body.get("value", []):
                bot.hear(item)
            # 204 to the legacy form: the same call comes again in the Graph form.
            self.send_response(202 if "value" in body else 204)
            self.send_header("Content-Length", "0")
            self.end_headers()
            for item in body.get("value", []):
                bot.receive(item)

        def log_message(self, *_):
            pass

    return Handler

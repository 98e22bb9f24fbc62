"""The bot of the scripts, behind the gateway: it keeps what it hears, and serves a prompt."""

import asyncio
import io
import json
import os
import threading
import time
import wave
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST, PORT = os.environ["BOT_ADDRESS"].split(":")
PROMPT_URL = f"http://{HOST}:{PORT}/prompt.wav"
LONG_PROMPT_URL = f"http://{HOST}:{PORT}/long.wav"
WAIT_SECONDS = 15

# One item of a notification. `below` is the path below the call, like "/participants".
Item = namedtuple("Item", "call below change data")


class Bot:
    """The webhook, and all items that it received, oldest first."""

    def __init__(self):
        self.items = []
        self.callbacks = {}  # the callback URI that the gateway gave for each new call
        server = ThreadingHTTPServer((HOST, int(PORT)), self.handler())
        threading.Thread(target=server.serve_forever, daemon=True).start()

    async def heard(self, what, find):
        """Waits until `find` returns something."""
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end:
            if found := find():
                return found
            await asyncio.sleep(0.01)
        raise AssertionError(f"the bot did not hear {what}; it heard {self.items[-3:]}")

    async def item(self, call, below, change, **members):
        """Waits for an item about a call whose resourceData has these members."""

        def find():
            for item in self.items:
                if item[:3] == (call, below, change) and members.items() <= item.data.items():
                    return item

        return await self.heard(f"{change} {below or 'call'} {members}", find)

    async def roster(self, call, what, test):
        """Waits until the newest roster of a call is as expected."""

        def find():
            rosters = [item.data for item in self.items if item[:2] == (call, "/participants")]
            return rosters and test(rosters[-1]) and rosters[-1]

        return await self.heard(f"a roster: {what}", find)

    async def tone(self, call, tone):
        """Waits for a key."""

        def find():
            for item in self.items:
                if item[:2] == (call, "") and (item.data.get("toneInfo") or {}).get("tone") == tone:
                    return item

        return await self.heard(tone, find)

    async def new_call(self, call):
        """Waits for a new call: its callback URI."""
        return await self.heard(f"the new call {call}", lambda: self.callbacks.get(call))

    def receive(self, headers, body):
        for item in body["value"]:
            call, slash, below = item["resourceUrl"].removeprefix("/communications/calls/").partition("/")
            self.items.append(Item(call, slash + below, item["changeType"], item["resourceData"]))
            if "Switchboard-Deadline" in headers:
                self.callbacks[call] = headers["Switchboard-Callback-Uri"]

    def handler(bot):
        class Webhook(BaseHTTPRequestHandler):
            def do_GET(self):
                self.reply(200, silence(20 if "long" in self.path else 0.2))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                # 204 asks for the Graph form of a legacy notification.
                legacy = "value" not in body
                if not legacy:
                    bot.receive(self.headers, body)
                self.reply(204 if legacy else 202)

            def reply(self, status, body=b""):
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Webhook


def silence(seconds):
    """A file as Graph takes it: WAV, PCM, 16 kHz, 16 bit, mono."""
    file = io.BytesIO()
    with wave.open(file, "wb") as prompt:
        prompt.setparams((1, 2, 16000, 0, "NONE", ""))
        prompt.writeframes(bytes(int(32000 * seconds)))
    return file.getvalue()

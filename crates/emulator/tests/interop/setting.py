"""Settings and helpers of every script: the address of the emulator, and the identity of the app."""

import os

from switchboard_emulator import Emulator

ORIGIN = os.environ["EMULATOR_ORIGIN"]
CA = os.environ["EMULATOR_CA"]
APP = os.environ["EMULATOR_APP"]
SECRET = os.environ["EMULATOR_SECRET"]
TENANT = os.environ["EMULATOR_TENANT"]
CERTIFICATE = os.environ["EMULATOR_CERTIFICATE"]
KEY = os.environ["EMULATOR_KEY"]
# The webhook of the gateway, and the callback URI of the bot behind it for the calls that it places.
WEBHOOK = os.environ["GATEWAY_WEBHOOK"]
CALLBACK = os.environ["BOT_CALLBACK"]
GRAPH_SCOPE = "https://graph.microsoft.com/.default"


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


EMULATOR = Emulator.connect(ORIGIN, app=APP, ca=CA)


def place_call(**options):
    """Lets a person call the bot behind the gateway. The call lasts until it is hung up."""
    return EMULATOR.place_call(WEBHOOK, tenant=TENANT, **options)


def ok(what):
    print(f"  {what}", flush=True)

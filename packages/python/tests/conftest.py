import pytest
from bot import Bot

pytest_plugins = ["pytester"]


@pytest.fixture
def bot(emulator):
    running = Bot(emulator.addresses["graph"])
    yield running
    running.stop()

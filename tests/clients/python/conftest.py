"""What the tests share: one simulator, one program in front of it, and clients of it."""

import os
from datetime import UTC, datetime

import openai
import pytest

from gateway import Counts, Gateway, Simulator


def pytest_configure():
    if not {"GATEWAY", "SIMULATOR"} <= os.environ.keys():
        raise pytest.UsageError("scripts/test --clients starts these tests")


@pytest.fixture(scope="session")
def simulator():
    simulator = Simulator()
    yield simulator
    simulator.stop()


@pytest.fixture(scope="session")
def gateway(simulator):
    """The program with default settings, warmed up: signed in, with a prompt and a socket."""
    gateway = Gateway(simulator, "--unknown-models", "refuse")
    with openai.OpenAI(base_url=gateway.api, api_key="any") as client:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    yield gateway
    gateway.stop()


@pytest.fixture
def start_gateway(simulator):
    """Starts the program with other settings. It has not signed in yet."""
    started = []

    def start(*arguments):
        started.append(Gateway(simulator, *arguments))
        return started[-1]

    yield start
    for gateway in started:
        gateway.stop()


@pytest.fixture(autouse=True)
def nothing_left_over(simulator):
    simulator.reset()


@pytest.fixture
def counts(simulator, gateway):
    """What happens in the simulator during the test."""
    return Counts(simulator)


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=gateway.api, api_key="any") as client:
        yield client


@pytest.fixture
async def async_client(gateway):
    async with openai.AsyncOpenAI(base_url=gateway.api, api_key="any") as client:
        yield client


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds to the report of a failure what the program has logged meanwhile."""
    report = yield
    gateway = getattr(item, "funcargs", {}).get("gateway")
    if report.failed and gateway is not None:
        began = datetime.fromtimestamp(call.start, UTC).isoformat()
        lines = [line for line in gateway.log().splitlines() if line >= began]
        report.sections.append(("the program's log", "\n".join(lines)))
    return report

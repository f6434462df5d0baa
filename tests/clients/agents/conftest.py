"""What the tests of agents share: a simulator and the program, and a place to run an agent in.

The environment says where things are: GATEWAY and SIMULATOR hold the paths of the two programs,
CLIENTS that of the directory in which scripts/test installs the agents.
"""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from gateway import ENVIRONMENT, Gateway, Simulator

# An agent that takes longer hangs: alone, each takes a few seconds.
LONGEST_RUN = 120
# Nothing but the program is to be reached, so that the tests go the same with and without Internet.
NO_INTERNET = {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1", "no_proxy": "127.0.0.1"}


@pytest.fixture(scope="session")
def simulator():
    simulator = Simulator()
    yield simulator
    simulator.stop()


@pytest.fixture(scope="session")
def gateway(simulator):
    # As agents meet it: failures are remembered.
    settings = ["--model-aliases", "mine=gpt-6-luna", "--remember-failures", "30"]
    gateway = Gateway(simulator, *settings)
    yield gateway
    gateway.stop()


@pytest.fixture
def clients(simulator):
    simulator.reset()
    return Path(os.environ["CLIENTS"])


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


class Place:
    """Where an agent runs: a home of its own, and in it an empty directory to work in."""

    def __init__(self, home):
        self.home = home
        self.work = home / "work"
        self.work.mkdir()

    def run(self, *command, **environment):
        """Runs an agent's program; gives its exit code, what it printed, and its complaints."""
        # Some take the directory that they run in from PWD.
        home = {"HOME": str(self.home), "PWD": str(self.work), "TERM": "dumb"} | {
            f"XDG_{kind}_HOME": str(self.home / kind.lower())
            for kind in ["CONFIG", "DATA", "CACHE", "STATE"]
        }
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=self.work,
            env=ENVIRONMENT | NO_INTERNET | home | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=LONGEST_RUN)
        finally:
            end_group(process)
        return process.returncode, out, err


def end_group(process):
    """Ends a process and what it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()

"""Starts the program and the simulator of LangFast, both real processes on ports of their own.

The environment says where they are: GATEWAY and SIMULATOR hold the paths of the two programs.
"""

import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
import urllib.request
import zlib
from pathlib import Path
from urllib.parse import quote

# Nothing here may go through a proxy, and no setting of the person's own may leak in.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("LANGFAST2API_") and not name.lower().endswith("_proxy")
}


def png():
    """A picture: one red dot."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))
    return b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")


class Process:
    """A program that says on its first line where it listens."""

    def __init__(self, command):
        self.log_file = tempfile.TemporaryFile("w+", errors="replace")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log_file,
            env=ENVIRONMENT,
            text=True,
        )
        line = self.process.stdout.readline()
        address = re.search(r"http://[^\s,/]+", line)
        if address is None:
            self.stop()
            raise RuntimeError(f"{command[0]} says {line!r}; its log:\n{self.log()}")
        self.url = address.group()

    def log(self):
        self.log_file.seek(0)
        return self.log_file.read()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Simulator(Process):
    """LangFast. What a run answers is chosen by the last user message, see `sim`."""

    def __init__(self):
        super().__init__([os.environ["SIMULATOR"], "--listen", "127.0.0.1:0", "--delay", "1"])

    def fault(self, step, **fault):
        """Lets the next requests at this step fail: status=, headers=, body=, kind=, times=."""
        self._post("fault", {"step": step, **fault})

    def turns(self, *turns):
        """Lets the next runs answer as these say, one each, see `turn`."""
        self._post("turns", turns)

    def cut(self):
        """Ends every WebSocket."""
        self._post("cut")

    def reset(self):
        """Forgets queued faults and turns, and recorded runs; counts stay."""
        self._post("reset")

    def stats(self):
        return self._get("stats")

    def last_run(self):
        """The body of the run that was started last."""
        return self._get("runs")[-1]

    def told(self):
        """The contents of the messages of the run that was started last."""
        return [message["content"] for message in self.last_run()["prompt_meta"]["messages"]]

    def _get(self, name):
        with urllib.request.urlopen(f"{self.url}/_sim/{name}") as response:
            return json.load(response)

    def _post(self, name, body=None):
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/_sim/{name}", data, headers)
        urllib.request.urlopen(request).close()


class Counts:
    """What has happened in the simulator since this was made."""

    def __init__(self, simulator):
        self._simulator = simulator
        self._before = simulator.stats()

    def __getitem__(self, name):
        return self._simulator.stats()[name] - self._before[name]


class Gateway(Process):
    """The program, in front of a simulator, with a state directory of its own."""

    def __init__(self, simulator, *arguments):
        self.state = Path(tempfile.mkdtemp(prefix="gateway-"))
        command = [os.environ["GATEWAY"], "--listen", "127.0.0.1:0", "--log", "debug"]
        command += ["--supabase-url", simulator.url, "--runner-url", simulator.url]
        # What is listed must not depend on the day.
        command += ["--all-models"]
        # A test that has the same request fail again means another run.
        command += ["--remember-failures", "0"]
        command += ["--state-dir", str(self.state), *map(str, arguments)]
        super().__init__(command)
        self.api = f"{self.url}/v1"

    def stop(self):
        super().stop()
        shutil.rmtree(self.state, ignore_errors=True)


def sim(**keys):
    """A message that makes the simulated run answer as these keys say."""
    return "/sim " + " ".join(f"{name}={quote(str(value))}" for name, value in keys.items())


def turn(text="", *calls, **keys):
    """What a model that calls tools does in one run: its text, its calls, the run's other keys."""
    words = " ".join(f"{name}={quote(str(value))}" for name, value in keys.items())
    return {"text": text, "calls": calls, "sim": words}


def call(name, **arguments):
    """A call in a `turn`."""
    return {"name": name, "arguments": arguments}


def user(content):
    """The messages of a conversation in which a user has said this."""
    return [{"role": "user", "content": content}]


# A long text of all kinds of characters, in words: the simulator sends a word an event.
WORDS = 'Zażółć gęślą jaźń 你好，世界。 👩‍👩‍👧‍👦 🏳️‍🌈 a\tb مرحبا नमस्ते "\\n" \u2028 e\u0301 '
LONG_TEXT = WORDS * 500 + "end"

"""Agents in front of a server with `--tool-repair`: what a model called wrongly it is asked for again, and
the agent sees what is right alone.
"""

import pytest

import deviations
from gateway import Counts, Gateway, turn
from test_claude_code import claude, program  # noqa: F401 (fixtures)
from test_codex import codex  # noqa: F401
from test_opencode import opencode  # noqa: F401


@pytest.fixture(scope="module")
def gateway(simulator):
    gateway = Gateway(simulator, "--model-aliases", "claude-*=gpt-6-luna,mine=gpt-6-luna", "--tool-repair")
    yield gateway
    gateway.stop()


def script(name, key):
    """A call without what is required, one in a foreign form, both of which are written well when asked
    again, and the end.
    """

    def right(line):
        return deviations.plain(name, {key: f"echo {line} >>done.txt"})

    foreign = right("leaked").replace("<call-$NONCE name=", "<call name=").replace("call-$NONCE", "call")
    texts = [deviations.plain(name, {"wrong": 1}), right("one"), foreign, right("two"), "All done."]
    return [turn(text) for text in texts]


def test_claude_code_sees_what_is_right(claude, simulator):  # noqa: F811
    counts = Counts(simulator)
    simulator.turns(*script("Bash", "command"))
    result, status = claude("Write the lines.")
    assert (status, result["result"], result["num_turns"]) == (0, "All done.", 3)
    assert (claude.directory / "done.txt").read_text() == "one\ntwo\n"
    assert counts["runs"] == 5


def test_codex_sees_what_is_right(codex, simulator):  # noqa: F811
    counts = Counts(simulator)
    simulator.turns(*script("exec_command", "cmd"))
    items = codex.done("Write the lines.")
    assert (codex.place.work / "done.txt").read_text() == "one\ntwo\n"
    # The call in a foreign form had come as text already, which cannot be taken back.
    assert [item["text"] for item in items if item["type"] == "agent_message"][-1] == "All done."
    assert counts["runs"] == 5


def test_opencode_sees_what_is_right(opencode, place, simulator):  # noqa: F811
    counts = Counts(simulator)
    simulator.turns(*script("bash", "command"))
    out = opencode("Write the lines.")
    assert (place.work / "done.txt").read_text() == "one\ntwo\n"
    assert "All done." in out
    assert counts["runs"] == 5

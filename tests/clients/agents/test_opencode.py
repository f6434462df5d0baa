"""opencode, which speaks chat completions with tools: a small task."""

import json

import pytest

import deviations
from gateway import call, turn

PATCH = "*** Begin Patch\n*** Add File: hello.txt\n+Hello\n*** End Patch\n"


def config(api):
    """As tests/README.md has it."""
    options = {"baseURL": api, "apiKey": "none"}
    package = {"npm": "@ai-sdk/openai-compatible", "name": "langfast2api"}
    provider = package | {"options": options, "models": {"gpt-6-luna": {}}}
    return {"model": "langfast/gpt-6-luna", "provider": {"langfast": provider}}


@pytest.fixture
def opencode(clients, place, gateway):
    """Runs the agent on a task, and gives what it printed."""
    if not list(clients.glob("agents/node_modules/opencode-linux-*")):
        pytest.skip("npm has no opencode for this platform")
    (place.work / "opencode.json").write_text(json.dumps(config(gateway.api)))
    # With a title it does not ask the model for one.
    command = [clients / "agents/node_modules/.bin/opencode", "run", "--title", "hello"]
    quiet = {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}

    def run(task):
        code, out, err = place.run(*command, task, **quiet)
        assert code == 0, f"{out}\n{err}"
        return out

    return run


def test_it_creates_a_file_and_runs_a_command(opencode, place, simulator):
    simulator.turns(
        turn("I write it.", call("apply_patch", patchText=PATCH), events=20),
        turn("", call("bash", command='cat hello.txt; echo "in $(basename $PWD)"')),
        turn("Done: hello.txt is there."),
    )
    out = opencode("Create hello.txt and show it.")
    assert (place.work / "hello.txt").read_text() == "Hello\n"
    assert "Done: hello.txt is there." in out
    told = [one["content"] for one in simulator.last_run()["prompt_meta"]["messages"]]
    assert "Hello\nin work" in told[-1]


def test_calls_that_deviate_from_the_form_finish_the_task(opencode, place, simulator):
    turns, lines = deviations.script("bash", "command")
    simulator.turns(*turns)
    out = opencode("Write the lines.")
    assert (place.work / "done.txt").read_text().splitlines() == lines
    assert "All done." in out and "to=functions.bash" in out

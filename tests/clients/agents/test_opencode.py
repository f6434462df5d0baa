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
    """Runs the agent on a task, with more settings; gives what it printed."""
    if not list(clients.glob("agents/node_modules/opencode-linux-*")):
        pytest.skip("npm has no opencode for this platform")
    # With a title it does not ask the model for one.
    command = [clients / "agents/node_modules/.bin/opencode", "run", "--title", "hello"]
    quiet = {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}

    def run(task, **settings):
        (place.work / "opencode.json").write_text(json.dumps(config(gateway.api) | settings))
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
    assert "Hello\nin work" in simulator.told()[-1]


def test_calls_that_deviate_from_the_form_finish_the_task(opencode, place, simulator):
    turns, lines = deviations.script("bash", "command")
    simulator.turns(*turns)
    out = opencode("Write the lines.")
    assert (place.work / "done.txt").read_text().splitlines() == lines
    assert "All done." in out and "to=functions.bash" in out


def test_tools_get_what_is_meant_without_arguments_with_other_types_and_behind_junk(opencode, place, simulator):
    file = place.work / "lines.txt"
    server = {"type": "local", "command": [*deviations.LINES, str(file)]}
    # It writes the server's name and a line in front, and asks before it calls the same a third time.
    turns, lines = deviations.script_for_lines("lines_")
    simulator.turns(*turns)
    opencode("Write the lines.", mcp={"lines": server}, permission={"doom_loop": "allow"})
    assert deviations.written(file) == lines


def test_a_tool_that_it_does_not_have_is_no_end(opencode, place, simulator):
    simulator.turns(*deviations.script_for_an_unknown_tool("bash", "command"))
    out = opencode("Write it.")
    assert (place.work / "done.txt").read_text() == "on\n" and "All done." in out
    assert any("unavailable tool 'launch_rocket'" in text for text in simulator.told())


def test_half_a_call_is_not_run(opencode, place, simulator):
    simulator.turns(*deviations.script_for_half_a_call("bash", "command"))
    out = opencode("Write it.")
    assert (place.work / "done.txt").read_text() == "on\n" and "All done." in out

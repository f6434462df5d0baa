"""The Codex CLI, which speaks responses: a small task, with the tools that it offers by itself."""

import json

import pytest

import deviations
from gateway import Counts, call, png, turn

# As tests/README.md has it.
CONFIG = """
model = "gpt-6-luna"
model_provider = "langfast"
{more}
[model_providers.langfast]
name = "langfast2api"
base_url = "{api}"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""
# A name that Codex does not know: it then offers each tool by itself.
PLAIN = ["-m", "mine"]
PATCH = '*** Begin Patch\n*** Add File: hello.txt\n+Hello "you" 🙂\n*** End Patch\n'


@pytest.fixture
def codex(clients, place, gateway):
    if not list(clients.glob("agents/node_modules/@openai/codex-*")):
        pytest.skip("npm has no Codex for this platform")
    return Codex(clients / "agents/node_modules/.bin/codex", place, gateway.api)


class Codex:
    def __init__(self, program, place, api):
        self.program, self.place, self.api = program, place, api
        self.home = place.home / ".codex"
        self.home.mkdir()

    def run(self, *arguments):
        return self.place.run(self.program, *arguments, CODEX_HOME=str(self.home))

    def do(self, task, more="", options=PLAIN, config=CONFIG, retries=0):
        """Has a task done; gives the exit code and the items of what Codex tells."""
        config = config.format(api=self.api, more=more)
        config = config.replace("max_retries = 0", f"max_retries = {retries}")
        (self.home / "config.toml").write_text(config)
        always = ["--skip-git-repo-check", "--sandbox", "danger-full-access", "--json"]
        code, out, err = self.run("exec", *always, *options, task)
        events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        assert events, f"{out}\n{err}"
        return code, events

    def done(self, task, more="", **how):
        code, events = self.do(task, more, **how)
        assert code == 0, events
        return [event["item"] for event in events if event["type"] == "item.completed"]


@pytest.mark.parametrize("config", [CONFIG, CONFIG.replace('model = "gpt-6-luna"\n', "")])
def test_it_has_code_run_for_models_that_it_knows_and_without_a_model_set(codex, simulator, config):
    # It offers its tools in an item of the input, and all but a few in one that runs JavaScript.
    command = """text((await tools.exec_command({cmd: "printf Hello > hello.txt; ls"})).output)"""
    patch = f"text(await tools.apply_patch({json.dumps(PATCH.replace('hello', 'patched'))}))"
    simulator.turns(
        turn("I write it.", call("functions__exec", input=command), events=20),
        turn("", call("functions__exec", input=patch)),
        turn("Done."),
    )
    items = codex.done("Create hello.txt and show it.", options=(), config=config)
    assert (codex.place.work / "hello.txt").read_text() == "Hello"
    assert (codex.place.work / "patched.txt").read_text() == 'Hello "you" 🙂\n'
    assert [item["text"] for item in items if item["type"] == "agent_message"] == ["I write it.", "Done."]
    assert any("hello.txt" in text and "<result-" in text for text in simulator.told())


def test_it_creates_a_file_and_runs_a_command(codex, simulator):
    simulator.turns(
        turn("I write it.", call("exec_command", cmd="printf Hello > hello.txt"), events=20),
        turn("", call("exec_command", cmd="cat hello.txt; echo \"in $(basename $PWD)\"")),
        turn("Done: hello.txt is there."),
    )
    items = codex.done("Create hello.txt and show it.")
    assert (codex.place.work / "hello.txt").read_text() == "Hello"
    commands = [item for item in items if item["type"] == "command_execution"]
    assert [item["exit_code"] for item in commands] == [0, 0]
    assert "Helloin work" in commands[1]["aggregated_output"]
    texts = [item["text"] for item in items if item["type"] == "agent_message"]
    assert texts == ["I write it.", "Done: hello.txt is there."]
    assert "Helloin work" in simulator.told()[-1]


def test_it_patches_by_a_custom_tool(codex, simulator):
    # Codex offers it for models that it knows: it is told of one.
    code, out, _ = codex.run("debug", "models")
    assert code == 0
    known = json.loads(out)["models"]
    model = next(model for model in known if model["apply_patch_tool_type"] and not model.get("tool_mode"))
    model |= {"slug": "mine", "supports_search_tool": False}
    catalog = codex.home / "models.json"
    catalog.write_text(json.dumps({"models": [model]}))

    simulator.turns(turn("", call("apply_patch", input=PATCH)), turn("Done."))
    items = codex.done("Create hello.txt.", f'model_catalog_json = "{catalog}"')
    assert (codex.place.work / "hello.txt").read_text() == 'Hello "you" 🙂\n'
    assert "file_change" in [item["type"] for item in items]
    assert "Success" in simulator.told()[-1]


def test_it_goes_on_after_it_has_viewed_an_image(codex, simulator):
    (codex.place.work / "dot.png").write_bytes(png())
    simulator.turns(
        turn("", call("view_image", path="dot.png")),
        turn("", call("exec_command", cmd="echo on")),
        turn("I cannot see it."),
    )
    items = codex.done("What is in dot.png?")
    assert [item["text"] for item in items if item["type"] == "agent_message"] == ["I cannot see it."]
    assert any("[image left out: image/png" in text for text in simulator.told())


def test_it_goes_on_after_a_message_with_an_image_was_refused(codex, simulator):
    (codex.place.work / "dot.png").write_bytes(png())
    simulator.turns(turn("Gladly."))
    code, events = codex.do("What is it?", options=[*PLAIN, "-i", "dot.png", "--"])
    assert code != 0 and "--images pass" in events[-1]["error"]["message"]
    code, events = codex.do("Never mind.", options=[*PLAIN, "resume", "--last"])
    assert code == 0, events
    texts = [event["item"]["text"] for event in events if "text" in event.get("item", {})]
    assert texts == ["Gladly."]
    assert any("[image left out: image/png" in text for text in simulator.told())


def test_it_keeps_one_connection_if_its_provider_has_websockets(codex, simulator, gateway):
    config = CONFIG + "supports_websockets = true\n"
    simulator.turns(
        turn("I write it.", call("exec_command", cmd="printf Hello > hello.txt"), events=20),
        turn("", call("exec_command", cmd="cat hello.txt")),
        turn("Done."),
    )
    before, counts = gateway.log(), Counts(simulator)
    items = codex.done("Create hello.txt and show it.", config=config)
    assert [item["text"] for item in items if item["type"] == "agent_message"] == ["I write it.", "Done."]
    assert (codex.place.work / "hello.txt").read_text() == "Hello"
    assert counts["runs"] == 3
    texts = simulator.told()
    assert len([text for text in texts if "Create hello.txt" in text]) == 1 and "Hello" in texts[-1]
    requests = [line for line in gateway.log().removeprefix(before).splitlines() if "/v1/responses" in line]
    # A message each, and perhaps one that only warms up.
    assert requests and all("GET /v1/responses status=200" in line for line in requests), requests


def test_a_failure_on_a_websocket_costs_one_run(codex, simulator):
    # It then asks again without a WebSocket, and is answered from memory.
    config = CONFIG + "supports_websockets = true\n"
    counts = Counts(simulator)
    simulator.turns(turn("a b c d e", events=9, fail=3, error="boom"))
    code, events = codex.do("Try it.", config=config)
    assert code != 0 and "boom" in events[-1]["error"]["message"]
    assert counts["runs"] == 1


def test_its_tools_in_a_namespace_are_called(codex, simulator):
    nobody = "01a20da1-32c5-75e1-a796-528315910cde"
    simulator.turns(turn("", call("multi_agent_v1__close_agent", target=nobody)), turn("Done."))
    items = codex.done("Close the agent.")
    assert [item["tool"] for item in items if item["type"] == "collab_tool_call"] == ["close_agent"]
    assert f"{nobody} not found" in simulator.told()[-1]


def test_a_failure_is_told_and_nothing_is_started_twice(codex, simulator):
    counts = Counts(simulator)
    simulator.turns(turn("Let me see what I can do", fail=3, error="it broke"))
    code, events = codex.do("Create hello.txt.")
    assert code != 0 and events[-1]["type"] == "turn.failed"
    assert "it broke" in events[-1]["error"]["message"]
    assert counts["runs"] == 1


def test_what_it_asks_again_by_itself_starts_no_other_run(codex, simulator):
    counts = Counts(simulator)
    simulator.turns(*[turn(error="it broke")] * 9)
    code, events = codex.do("Create hello.txt.", retries=1)
    message = events[-1]["error"]["message"]
    assert code != 0 and "it broke" in message and "answered from memory" in message
    assert counts["runs"] == 1


def test_calls_that_deviate_from_the_form_finish_the_task(codex, simulator):
    turns, lines = deviations.script("exec_command", "cmd")
    simulator.turns(*turns)
    items = codex.done("Write the lines.")
    assert (codex.place.work / "done.txt").read_text().splitlines() == lines
    texts = [item["text"] for item in items if item["type"] == "agent_message"]
    assert texts[-1].startswith("All done.") and "to=functions.exec_command" in texts[-1]


def test_tools_get_what_is_meant_without_arguments_with_other_types_and_behind_junk(codex, simulator):
    file = codex.place.work / "lines.txt"
    program, *arguments = [*deviations.LINES, str(file)]
    server = f'[mcp_servers.lines]\ncommand = "{program}"\nargs = {json.dumps(arguments)}\n'
    turns, lines = deviations.script_for_lines()
    simulator.turns(*turns)
    codex.done("Write the lines.", config=CONFIG + server)
    assert deviations.written(file) == lines


def test_a_tool_that_it_does_not_have_is_no_end(codex, simulator):
    simulator.turns(*deviations.script_for_an_unknown_tool("exec_command", "cmd"))
    items = codex.done("Write it.")
    assert (codex.place.work / "done.txt").read_text() == "on\n"
    assert any("unsupported call: launch_rocket" in text for text in simulator.told())
    assert items[-1]["text"] == "All done."


def test_half_a_call_is_not_run(codex, simulator):
    # It takes an answer that was cut for a failure, says so, and ends.
    simulator.turns(*deviations.script_for_half_a_call("exec_command", "cmd"))
    code, events = codex.do("Write it.")
    assert code != 0 and "max_output_tokens" in events[-1]["error"]["message"]
    assert not (codex.place.work / "done.txt").exists()
    assert not [event for event in events if event.get("item", {}).get("type") == "command_execution"]

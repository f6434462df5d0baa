"""Claude Code, Anthropic's agent for the command line, does small real tasks: the model is played by a
script, but the files are written and the commands run by the agent itself.
"""

import base64
import json
import platform
import subprocess
import threading

import pytest

import deviations
from gateway import ENVIRONMENT, Counts, Gateway, call, png, turn

MACHINES = {"x86_64": "x64", "aarch64": "arm64"}


@pytest.fixture
def program(clients):
    machine = MACHINES.get(platform.machine())
    packages = clients / "agents/node_modules/@anthropic-ai"
    for libc in ["", "-musl"]:
        path = packages / f"claude-code-linux-{machine}{libc}" / "claude"
        if path.exists():
            return path
    pytest.skip(f"Claude Code has no package for this machine ({platform.platform()})")


@pytest.fixture(scope="module")
def gateway(simulator):
    settings = ["--model-aliases", "claude-*=gpt-6-luna", "--remember-failures", "30"]
    gateway = Gateway(simulator, *settings)
    yield gateway
    gateway.stop()


@pytest.fixture
def claude(program, gateway, simulator, tmp_path):
    """Runs the agent in print mode in a directory of its own, and gives its result and exit status."""
    home = tmp_path / "home"
    work = tmp_path / "work"
    home.mkdir()
    work.mkdir()
    own = {name: ENVIRONMENT[name] for name in ("PATH", "LANG", "TMPDIR") if name in ENVIRONMENT}
    environment = own | {
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": gateway.url,
        "ANTHROPIC_API_KEY": "any",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        # It lets root do everything only where that can do no harm: here it does as the script says.
        "IS_SANDBOX": "1",
    }

    def run(*arguments):
        command = [program, "--print", "--output-format", "json", *arguments]
        command += ["--dangerously-skip-permissions"]
        done = subprocess.run(
            command,
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout.startswith("{"), f"{done.stdout}\n{done.stderr}\n{gateway.log()}"
        return json.loads(done.stdout), done.returncode

    def talk(*contents):
        """Says one thing after the other; gives what each came to."""
        command = [program, "--print", "--input-format", "stream-json", "--verbose"]
        command += ["--output-format", "stream-json", "--dangerously-skip-permissions"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=work, env=environment, **pipes) as process:
            end = threading.Timer(120, process.kill)
            end.start()
            results = []
            for content in contents:
                line = {"type": "user", "message": {"role": "user", "content": content}}
                print(json.dumps(line), file=process.stdin, flush=True)
                events = map(json.loads, process.stdout)
                results.append(next(event for event in events if event["type"] == "result"))
            process.stdin.close()
            process.stdout.read()
            end.cancel()
        return [result["result"] for result in results]

    run.directory, run.talk = work, talk
    return run


def told(simulator):
    return "\n".join(simulator.told())


def test_a_file_is_written_and_a_command_run(claude, simulator):
    path = str(claude.directory / "hello.txt")
    simulator.turns(
        turn("I will write it.", call("Write", file_path=path, content="Hello, wörld 🙂\n")),
        turn("", call("Bash", command="tr a-z A-Z <hello.txt | tee loud.txt", description="Shout")),
        turn("It is written, and loud."),
    )
    result, status = claude("Write hello.txt, and make it loud.")
    assert (status, result["is_error"], result["num_turns"]) == (0, False, 3)
    assert result["result"] == "It is written, and loud."
    assert (claude.directory / "hello.txt").read_text() == "Hello, wörld 🙂\n"
    assert (claude.directory / "loud.txt").read_text() == "HELLO, WöRLD 🙂\n"
    assert "HELLO, WöRLD 🙂" in told(simulator), "the model is told what came of it"
    assert result["usage"]["input_tokens"] > 1000


def test_a_file_is_read_and_edited_after_a_command_has_failed(claude, simulator):
    path = claude.directory / "sum.py"
    path.write_text("print(1 - 2)\n")
    simulator.turns(
        turn("", call("Bash", command="exit 3", description="Fail"), call("Read", file_path=str(path))),
        turn("A sign.", call("Edit", file_path=str(path), old_string="1 - 2", new_string="1 + 2")),
        turn("Mended."),
    )
    result, status = claude("Mend sum.py.")
    assert (status, result["result"]) == (0, "Mended.")
    assert path.read_text() == "print(1 + 2)\n"
    heard = told(simulator)
    assert 'error="true"' in heard and "print(1 - 2)" in heard


def test_a_conversation_goes_on_after_an_image_was_read(claude, simulator):
    path = claude.directory / "dot.png"
    path.write_bytes(png())
    simulator.turns(
        turn("", call("Read", file_path=str(path))), turn("I cannot see it."), turn("Still not.")
    )
    result, status = claude("What is in dot.png?")
    assert (status, result["result"]) == (0, "I cannot see it.")
    assert "[image left out: image/png" in told(simulator)
    result, status = claude("--continue", "And now?")
    assert (status, result["result"]) == (0, "Still not.")


def test_a_conversation_goes_on_after_an_image_was_pasted(claude, simulator):
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png()).decode()}
    pasted = [{"type": "text", "text": "What is it?"}, {"type": "image", "source": source}]
    counts = Counts(simulator)
    simulator.turns(turn("Hello."), turn("An image that I cannot see."), turn("Gladly."))
    results = claude.talk("Hi.", pasted, "Never mind.")
    # It takes a refused image out of the conversation by itself, and asks again.
    assert results == ["Hello.", "An image that I cannot see.", "Gladly."]
    assert counts["runs"] == 3


def test_a_conversation_goes_on(claude, simulator):
    simulator.turns(turn("Noted."), turn("A tench."))
    claude("My fish is a tench.")
    result, status = claude("--continue", "What is my fish?")
    assert (status, result["result"]) == (0, "A tench.")
    assert "My fish is a tench." in told(simulator) and "Noted." in told(simulator)


def test_a_stream_that_breaks_off_is_asked_for_once_more_and_starts_no_other_run(claude, simulator):
    simulator.turns(*[turn("I will see", fail=2, error="it broke")] * 9)
    counts = Counts(simulator)
    result, status = claude("Do it.")
    assert (status, result["is_error"]) == (1, True)
    assert counts["runs"] == 1


def test_calls_that_deviate_from_the_form_finish_the_task(claude, simulator):
    turns, lines = deviations.script("Bash", "command")
    simulator.turns(*turns)
    result, status = claude("Write the lines.")
    assert (status, result["is_error"]) == (0, False)
    assert (claude.directory / "done.txt").read_text().splitlines() == lines
    assert result["result"].startswith("All done.") and "to=functions.Bash" in result["result"]


def test_tools_get_what_is_meant_without_arguments_with_other_types_and_behind_junk(claude, simulator):
    file = claude.directory / "lines.txt"
    program, *arguments = [*deviations.LINES, str(file)]
    servers = {"mcpServers": {"lines": {"command": program, "args": arguments}}}
    turns, lines = deviations.script_for_lines()
    # Of a server's tools it tells the names alone, until the model has asked for more.
    search = call("ToolSearch", query="select:mcp__lines__stamp,mcp__lines__record")
    simulator.turns(turn("", search), *turns)
    result, status = claude("Write the lines.", "--mcp-config", json.dumps(servers))
    assert (status, result["result"]) == (0, "All done.")
    assert deviations.written(file) == lines


def test_a_tool_that_it_does_not_have_is_no_end(claude, simulator):
    simulator.turns(*deviations.script_for_an_unknown_tool("Bash", "command"))
    result, status = claude("Write it.")
    assert (status, result["result"]) == (0, "All done.")
    assert (claude.directory / "done.txt").read_text() == "on\n"
    assert "No such tool available: launch_rocket" in told(simulator)


def test_half_a_call_is_not_run(claude, simulator):
    simulator.turns(*deviations.script_for_half_a_call("Bash", "command"))
    result, status = claude("Write it.")
    assert (status, result["result"]) == (0, "All done.")
    assert (claude.directory / "done.txt").read_text() == "on\n"


def test_an_answer_by_a_schema_is_had_from_calls_that_deviate(claude, simulator):
    properties = {"city": {"type": "string"}, "days": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": ["city", "days"]}
    forms = [deviations.plain, deviations.wrapped, deviations.with_a_trailing_comma, deviations.listed]
    for form in forms:
        simulator.turns(turn(form("StructuredOutput", {"city": "Oslo", "days": "3"})))
        result, status = claude("Where, and how long?", "--json-schema", json.dumps(schema))
        assert (status, result["structured_output"]) == (0, {"city": "Oslo", "days": 3}), form.__name__


# The last one, since the program remembers a spent quota.
def test_a_spent_quota_is_said_and_costs_no_more(claude, simulator):
    simulator.fault("run", status=429, body={"message": "Daily limit reached"}, times=9)
    counts = Counts(simulator)
    result, status = claude("Hello?")
    assert (status, result["is_error"]) == (1, True)
    assert "Daily limit reached" in result["result"]
    assert counts["runs"] == 0 and counts["http_requests"] <= 2

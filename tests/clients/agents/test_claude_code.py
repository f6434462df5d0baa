"""Claude Code, Anthropic's agent for the command line, does small real tasks: the model is played by a
script, but the files are written and the commands run by the agent itself.
"""

import json
import platform
import subprocess

import pytest

from gateway import ENVIRONMENT, Counts, Gateway, call, turn

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
    gateway = Gateway(simulator, "--model-aliases", "claude-*=gpt-5")
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

    run.directory = work
    return run


def told(simulator):
    return "\n".join(message["content"] for message in simulator.last_run()["prompt_meta"]["messages"])


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


def test_a_conversation_goes_on(claude, simulator):
    simulator.turns(turn("Noted."), turn("A tench."))
    claude("My fish is a tench.")
    result, status = claude("--continue", "What is my fish?")
    assert (status, result["result"]) == (0, "A tench.")
    assert "My fish is a tench." in told(simulator) and "Noted." in told(simulator)


def test_a_spent_quota_is_said_and_costs_no_more(claude, simulator):
    simulator.fault("run", status=429, body={"message": "Daily limit reached"}, times=9)
    counts = Counts(simulator)
    result, status = claude("Hello?")
    assert (status, result["is_error"]) == (1, True)
    assert "Daily limit reached" in result["result"]
    assert counts["runs"] == 0 and counts["http_requests"] <= 2

"""The command line program `llm`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import ENVIRONMENT, LONG_TEXT, sim

PROGRAM = Path(sys.executable).with_name("llm")


@pytest.fixture
def llm(gateway, tmp_path):
    """Runs `llm -m langfast` with further arguments and gives what has become of it."""
    models = [
        {
            "model_id": "langfast",
            "model_name": "gpt-4o",
            "api_base": gateway.api,
            "supports_schema": True,
        }
    ]
    # JSON is YAML.
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))
    environment = ENVIRONMENT | {"LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""}

    def run(*arguments, question=None):
        command = [PROGRAM, "prompt", "-m", "langfast", *arguments]
        return subprocess.run(
            command, input=question or "", env=environment, capture_output=True, text=True, timeout=60
        )

    return run


@pytest.fixture(params=["streamed", "whole"])
def how(request):
    return ["--no-stream"] if request.param == "whole" else []


def test_a_question_is_answered(llm, how):
    done = llm("Hello there, wörld! 👋", *how)
    assert (done.returncode, done.stdout) == (0, "Hello there, wörld! 👋\n"), done.stderr


def test_a_long_question_from_a_file_is_answered(llm, how):
    done = llm(*how, question=LONG_TEXT)
    assert (done.returncode, done.stdout) == (0, LONG_TEXT + "\n"), done.stderr


def test_a_conversation_goes_on(llm, how, simulator):
    assert llm("first", "--system", "Be brief.", *how).returncode == 0
    done = llm("second", "--continue", *how)
    assert done.stdout == "second\n"
    messages = simulator.last_run()["prompt_meta"]["messages"]
    assert [message["content"] for message in messages] == ["Be brief.", "first", "first", "second"]


def test_a_schema_is_sent(llm, how, simulator):
    done = llm(sim(say='{"name": "Zoë", "age": 7}'), "--schema", "name, age int", *how)
    assert json.loads(done.stdout) == {"name": "Zoë", "age": 7}, done.stderr
    assert simulator.last_run()["prompt_meta"]["response_format"]["type"] == "json_schema"


def test_a_failure_is_told(llm, how):
    done = llm(sim(fail=3, error="it broke"), *how)
    assert done.returncode != 0
    assert "it broke" in done.stderr

"""LlamaIndex, which is no agent, but wants an `openai` before 3: it runs with aider's Python, in which
that is installed. A stream that fails after some text has to raise an error."""

import pytest

from gateway import Counts, sim

SCRIPT = """
import sys
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI, OpenAIResponses

kind, api, message = sys.argv[1:]
model = {"chat": OpenAI, "responses": OpenAIResponses}[kind](
    model="gpt-6-luna", api_base=api, api_key="any", max_retries=0
)
for answer in model.stream_chat([ChatMessage(role="user", content=message)]):
    print(answer.delta, end="")
print("|", answer.message.content)
"""


@pytest.fixture(params=["chat", "responses"])
def ask(request, clients, place, gateway):
    python = clients / "aider/bin/python"
    return lambda message: place.run(python, "-c", SCRIPT, request.param, gateway.api, message)


def test_a_stream_is_an_answer(ask):
    code, out, err = ask("Hello, you there")
    assert (code, out) == (0, "Hello, you there| Hello, you there\n"), err


def test_a_stream_that_fails_is_an_error(ask, simulator):
    counts = Counts(simulator)
    code, out, err = ask(sim(fail=3, error="it broke"))
    assert code != 0 and "it broke" in err.splitlines()[-1], err
    assert "|" not in out
    assert counts["runs"] == 1

"""LangChain's `ChatOpenAI`, by the standard tests that LangChain has for its integrations."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from pydantic import BaseModel

from gateway import sim


class TestStandard(ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def at_the_gateway(self, gateway):
        self._api = gateway.api

    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        # Off by default where the base URL is not OpenAI's.
        options = {"stream_usage": True}
        return {"model": "gpt-4o", "base_url": self._api, "api_key": "any"} | options

    @property
    def supports_model_override(self):
        return True

    @property
    def model_override_value(self):
        return "gpt-4.1-mini"

    @property
    def has_tool_calling(self):
        return False

    @property
    def has_tool_choice(self):
        return False

    # These two need a model that understands the question; below they are tested by an answer that
    # is given to the simulator.
    @property
    def has_structured_output(self):
        return False

    @property
    def supports_json_mode(self):
        return False


class Joke(BaseModel):
    setup: str
    punchline: str


JOKE = Joke(setup="Why?", punchline="Därför 🙂")


@pytest.fixture
def model(gateway):
    return ChatOpenAI(model="gpt-4o", base_url=gateway.api, api_key="any")


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
async def test_structured_output(model, simulator, method):
    structured = model.with_structured_output(Joke, method=method)
    question = sim(say=JOKE.model_dump_json())
    assert structured.invoke(question) == JOKE
    assert await structured.ainvoke(question) == JOKE
    assert list(structured.stream(question))[-1] == JOKE
    sent = simulator.last_run()["prompt_meta"]["response_format"]
    assert (sent["type"] if method == "json_schema" else sent) == method.replace("mode", "object")


def test_a_history_with_tool_calls_is_understood(model, simulator):
    call = {"name": "weather", "args": {"place": "Oslo"}, "id": "call_1"}
    answer = model.invoke(
        [
            HumanMessage("How is the weather?"),
            AIMessage("", tool_calls=[call]),
            ToolMessage("Rain", tool_call_id="call_1"),
            HumanMessage("So?"),
        ]
    )
    assert answer.content == "So?"
    sent = [message["content"] for message in simulator.last_run()["prompt_meta"]["messages"]]
    assert "weather" in sent[1] and "Oslo" in sent[1] and "Rain" in sent[2]


def test_a_failure_within_a_stream_is_raised(model):
    with pytest.raises(Exception, match="it broke"):
        list(model.stream(sim(fail=3, error="it broke")))

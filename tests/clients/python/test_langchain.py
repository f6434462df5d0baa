"""LangChain's `ChatOpenAI`, by the standard tests that LangChain has for its integrations."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from pydantic import BaseModel

from gateway import call, sim, turn


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings", "ignore:Received a Pydantic")
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

    @pytest.fixture(autouse=True)
    def script(self, request, simulator):
        """The tests expect a model that understands the question: what it does is set here."""
        simulator.turns(*SCRIPTS.get(request.node.originalname, []))

    @property
    def supports_json_mode(self):
        return True


JOKES = [turn('{"setup": "Why?", "punchline": "Because."}')] * 4
MAGIC = turn("", call("magic_function", input=3))
SCRIPTS = {
    "test_tool_calling": [MAGIC] * 2,
    "test_tool_calling_async": [MAGIC] * 2,
    "test_tool_choice": [MAGIC] * 2,
    "test_bind_runnables_as_tools": [turn("", call("greeting_generator", answer_style="pirate"))],
    "test_tool_calling_with_no_arguments": [turn("", call("magic_function_no_args"))] * 2,
    "test_tool_message_histories_string_content": [turn("3")],
    "test_tool_message_histories_list_content": [turn("3")],
    "test_tool_message_error_status": [turn("", call("my_adder_tool", a=1, b=2))],
    "test_structured_few_shot_examples": [turn("", call("my_adder_tool", a=3, b=4))],
    "test_agent_loop": [turn("", call("get_weather", location="San Francisco")), turn("Sunny.")],
    "test_unicode_tool_call_integration": [
        turn("", call("unicode_customer", customer_name=name, description="A company"))
        for name in ("你好啊集团", "こんにちは株式会社")
    ],
    "test_structured_output": JOKES,
    "test_structured_output_async": JOKES,
    "test_structured_output_pydantic_2_v1": JOKES,
    "test_structured_output_optional_param": JOKES,
    "test_json_mode": JOKES,
}


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
    sent = simulator.told()
    assert "weather" in sent[-3] and "Oslo" in sent[-3] and "Rain" in sent[-2]


def test_a_failure_within_a_stream_is_raised(model):
    with pytest.raises(Exception, match="it broke"):
        list(model.stream(sim(fail=3, error="it broke")))

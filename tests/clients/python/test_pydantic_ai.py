"""pydantic-ai over all three APIs: answers, tools, structured output, and streams that fail."""

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, RunContext
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from gateway import LONG_TEXT, call, sim, turn

CUT = sim(fail=3, error="it broke")


class Weather(BaseModel):
    place: str
    days: int


def openai_provider(gateway):
    return OpenAIProvider(base_url=gateway.api, api_key="any")


APIS = {
    "chat": lambda gateway: OpenAIChatModel("gpt-5", provider=openai_provider(gateway)),
    "responses": lambda gateway: OpenAIResponsesModel("gpt-5", provider=openai_provider(gateway)),
    "messages": lambda gateway: AnthropicModel(
        "gpt-5", provider=AnthropicProvider(base_url=gateway.url, api_key="any")
    ),
}


@pytest.fixture(params=APIS)
def model(request, gateway):
    return APIS[request.param](gateway)


async def streamed(agent, message):
    async with agent.run_stream(message) as result:
        return [piece async for piece in result.stream_text(delta=True)]


async def test_an_answer_whole_and_streamed(model):
    agent = Agent(model)
    assert (await agent.run(LONG_TEXT)).output == LONG_TEXT
    pieces = await streamed(agent, LONG_TEXT)
    assert "".join(pieces) == LONG_TEXT and len(pieces) > 1


async def test_an_agent_runs_its_tools(model, simulator, counts):
    agent = Agent(model)

    @agent.tool
    def weather(_: RunContext[None], place: str) -> str:
        """The weather of a place."""
        return f"rain in {place}"

    looks = turn("Let me look.", call("weather", place="Osló 🙂"), call("weather", place="Rome"))
    simulator.turns(looks, turn("Rain in both."), looks, turn("Rain in both."))
    result = await agent.run("How is it?")
    assert result.output == "Rain in both."
    told = simulator.told()
    assert any("rain in Osló 🙂" in text for text in told) and any("rain in Rome" in text for text in told)
    events = []
    async with agent.run_stream_events("And now?", message_history=result.all_messages()) as stream:
        async for event in stream:
            events.append(event)
    assert events[-1].result.output == "Rain in both."
    assert counts["runs"] == 4


async def test_output_of_a_type(model, simulator):
    agent = Agent(model, output_type=Weather)
    simulator.turns(turn("", call("final_result", place="Oslo", days=2)))
    assert (await agent.run("How is it?")).output == Weather(place="Oslo", days=2)


# Answers of a model that has to call a tool, as it writes them instead of the form that it was asked for.
FORCED = {
    "fenced, and other fields": '```json\n{"calls":[{"tool":"final_result","parameters":%s}]}\n```',
    "a bare list with a prefix": '[{"name":"functions.final_result","arguments":%s}]',
    "prose around it": 'Here it is:\n{"calls":[{"arguments":%s,"name":"final_result"}]}\nAs you asked.',
}


@pytest.mark.parametrize("form", FORCED)
async def test_output_of_a_type_is_had_from_calls_that_deviate(model, simulator, counts, form):
    agent = Agent(model, output_type=Weather)
    simulator.turns(turn(FORCED[form] % '{"place": "Oslo", "days": 2}'))
    assert (await agent.run("How is it?")).output == Weather(place="Oslo", days=2)
    assert counts["runs"] == 1


async def test_half_a_call_runs_no_tool(model, simulator, counts):
    agent, asked = Agent(model), []

    @agent.tool_plain
    def weather(place: str) -> str:
        """The weather of a place."""
        asked.append(place)
        return "rain"

    # It asks again, with what is wrong.
    half = turn('I look. <call-$NONCE name="weather">{"place": "Os')
    simulator.turns(half, turn("", call("weather", place="Oslo")), turn("Rain."))
    assert (await agent.run("How is it?")).output == "Rain."
    assert asked == ["Oslo"] and counts["runs"] == 3


async def test_failures_are_errors_and_run_once(model, counts):
    agent = Agent(model)
    with pytest.raises(ModelHTTPError) as caught:
        await agent.run(sim(error="it broke"))
    assert caught.value.status_code == 502
    with pytest.raises(Exception, match="it broke") as caught:
        await streamed(agent, CUT)
    assert not isinstance(caught.value, AssertionError)
    assert counts["runs"] == 2

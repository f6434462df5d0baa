"""Stored responses with the `openai` package and with openai-agents: continued, fetched again, run in the
background.
"""

import openai
import pytest
from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, function_tool

from gateway import call, sim, turn
from test_responses import check_event, check_response, create
from test_types import check
from openai.types.responses import ResponseItem

SLOW = sim(say="It rains in Oslo and in Rome.", first=300, delay=30, events=8)


def finished(client, response):
    """The response when it is there."""
    while response.status in {"queued", "in_progress"}:
        response = client.responses.retrieve(response.id)
    return response


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_goes_on_behind_a_response(client, simulator, stream):
    simulator.turns(turn("Let me look.", call("weather", place="Oslo")), turn("Rain."), turn("Take a coat."))
    tools = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}]

    def ask(**options):
        response = create(client, tools=tools, stream=stream, **options)
        return [event for event in response][-1].response if stream else response

    first = ask(input="How is it?", instructions="Be brief.")
    made = first.output[1]
    output = {"type": "function_call_output", "call_id": made.call_id, "output": "rain in Oslo"}
    second = ask(input=[output], previous_response_id=first.id)
    assert second.previous_response_id == first.id
    third = ask(input="And what do I wear?", previous_response_id=second.id)
    assert third.output_text == "Take a coat."
    system, question, answer, result, *rest = simulator.told()
    assert "Be brief." not in system and question == "How is it?"
    assert "Let me look." in answer and "rain in Oslo" in result
    assert rest == ["Rain.", "And what do I wear?"]


def test_a_response_is_fetched_listed_and_deleted(client):
    response = create(client, input=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    raw = client.responses.with_raw_response.retrieve(response.id)
    assert check_response(raw.parse().to_dict() | {"output": response.to_dict()["output"]})
    assert client.responses.retrieve(response.id) == response
    pages = client.responses.input_items.list(response.id, order="asc", limit=1)
    items = list(pages)
    assert [item.content[0].text for item in items] == ["a", "b"]
    for item in items:
        check(ResponseItem, item.to_dict())
    assert client.responses.delete(response.id) is None
    with pytest.raises(openai.NotFoundError, match="not stored"):
        client.responses.retrieve(response.id)
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, previous_response_id=response.id)
    assert caught.value.code == "previous_response_not_found"


def test_a_response_in_the_background_is_polled_and_cancelled(client):
    response = create(client, input=SLOW, background=True)
    assert response.status == "in_progress"
    assert finished(client, response).output_text == "It rains in Oslo and in Rome."
    response = create(client, input=sim(say="x", first=60_000), background=True)
    assert client.responses.cancel(response.id).status == "cancelled"
    assert client.responses.retrieve(response.id).status == "cancelled"


@pytest.mark.parametrize("background", [False, True])
def test_a_lost_stream_is_taken_up_where_it_broke_off(client, counts, background):
    events = []
    with create(client, input=SLOW, stream=True, background=background) as stream:
        for event in stream:
            events.append(event)
            if event.type == "response.output_text.delta":
                break
    response = events[0].response
    after = events[-1].sequence_number
    events += client.responses.retrieve(response.id, stream=True, starting_after=after)
    for event in events:
        check_event(event.to_dict())
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == events[-1].response.output_text == "It rains in Oslo and in Rome."
    with client.responses.stream(response_id=response.id, starting_after=after) as stream:
        assert stream.get_final_response().output_text == "".join(deltas)
    assert counts["runs"] == 1


@function_tool
def weather(place: str) -> str:
    """The weather of a place."""
    return f"rain in {place}"


async def converse(agent, simulator, config, stream):
    """Has the agent call `weather`, answer, and continue the stored response: three runs."""

    async def ask(question, **options):
        if stream:
            result = Runner.run_streamed(agent, question, run_config=config, **options)
            async for _ in result.stream_events():
                pass
            return result
        return await Runner.run(agent, question, run_config=config, **options)

    simulator.turns(turn("", call("weather", place="Oslo")), turn("Rain."), turn("A coat."))
    first = await ask("How is it?", auto_previous_response_id=True)
    assert first.final_output == "Rain."
    assert any("rain in Oslo" in content for content in simulator.told())
    second = await ask("And what do I wear?", previous_response_id=first.last_response_id)
    assert second.final_output == "A coat."
    assert "How is it?" in simulator.told() and simulator.told()[-1] == "And what do I wear?"


@pytest.mark.parametrize("stream", [False, True])
async def test_agents_continue_stored_responses(async_client, simulator, counts, stream):
    agent = Agent("a", tools=[weather], model=OpenAIResponsesModel("gpt-5", async_client))
    config = RunConfig(tracing_disabled=True)
    await converse(agent, simulator, config, stream)
    assert counts["runs"] == 3

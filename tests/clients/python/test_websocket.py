"""Responses on a WebSocket: `responses.connect()` of the `openai` package, and openai-agents' model for it."""

import openai
import pytest
from agents import Agent, ModelSettings, RunConfig, Runner
from agents.models.multi_provider import MultiProvider
from openai.types.responses import ResponsesServerEvent
from websockets.exceptions import InvalidStatus

from gateway import Counts, call, sim, turn
from test_responses import published
from test_stored import converse, weather
from test_types import check

TERMINAL = {"response.completed", "response.failed", "response.incomplete", "error"}
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}


@pytest.fixture
def connection(client):
    with client.responses.connect() as connection:
        yield connection


def ask(connection, **options):
    """The events of a response, checked against the SDK's types."""
    connection.response.create(**{"model": "gpt-5", "input": "Hi"} | options)
    events = []
    for event in connection:
        events.append(event)
        data = event.to_dict()
        if "response" in data:
            data["response"] = published(data["response"])
        # Beside the error only Codex reads them.
        data.pop("headers", None)
        check(ResponsesServerEvent, data)
        if event.type in TERMINAL:
            return events


def test_a_conversation_goes_on_without_being_stored(connection, simulator, counts):
    simulator.turns(turn("Let me look.", call("weather", place="Oslo"), events=20), turn("Rain."), turn("A coat."))
    first = ask(connection, input="How is it?", tools=[WEATHER], store=False)[-1].response
    made = first.output[1]
    output = {"type": "function_call_output", "call_id": made.call_id, "output": "rain in Oslo"}
    second = ask(connection, input=[output], tools=[WEATHER], store=False, previous_response_id=first.id)
    question = "And what do I wear?"
    third = ask(connection, input=question, store=False, previous_response_id=second[-1].response.id)
    deltas = [event.delta for event in third if event.type == "response.output_text.delta"]
    assert "".join(deltas) == third[-1].response.output_text == "A coat."
    assert "How is it?" in simulator.told() and simulator.told()[-1] == question
    assert counts["runs"] == 3


def test_lanes_are_told_apart(connection):
    for lane in ["one", "two"]:
        connection.response.create(model="gpt-5", input=sim(say=lane), stream_id=lane)
    texts = {}
    for event in connection:
        if event.type == "response.completed":
            texts[event.stream_id] = event.response.output_text
        if len(texts) == 2:
            break
    assert texts == {"one": "one", "two": "two"}


def test_a_warm_up_starts_no_run(connection, counts):
    warm = ask(connection, generate=False, store=False)[-1].response
    assert warm.output == [] and counts["runs"] == 0
    assert ask(connection, previous_response_id=warm.id)[-1].response.output_text


def test_errors_are_events_and_the_connection_goes_on(connection, simulator):
    [error] = ask(connection, previous_response_id="resp_unknown")
    assert (error.status, error.error.code) == (400, "previous_response_not_found")
    simulator.fault("run", status=500)
    [error] = ask(connection)
    assert (error.status, error.error.type) == (502, "upstream_error")
    assert error.error.headers["x-should-retry"] == "false"
    *events, error = ask(connection, input=sim(events=9, fail=5))
    assert error.type == "error" and "response.output_text.delta" in {event.type for event in events}
    connection.response.steer(input="Left!", previous_response_id="resp_1")
    failed = connection.recv()
    assert (failed.type, failed.error.code) == ("response.steer.failed", "steering_not_supported")
    assert ask(connection)[-1].type == "response.completed"


async def test_the_asynchronous_client(async_client):
    async with async_client.responses.connect() as connection:
        await connection.response.create(model="gpt-5", input=sim(say="Hello"))
        events = [event async for event in until_the_end(connection)]
        assert events[-1].response.output_text == "Hello"


async def until_the_end(connection):
    async for event in connection:
        yield event
        if event.type in TERMINAL:
            return


def test_a_key_is_asked_for(start_gateway, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("the-key\n")
    gateway = start_gateway("--api-keys-file", keys)
    with openai.OpenAI(base_url=gateway.api, api_key="wrong") as client:
        with pytest.raises(InvalidStatus) as caught, client.responses.connect():
            pass
        assert caught.value.response.status_code == 401
    with openai.OpenAI(base_url=gateway.api, api_key="the-key") as client:
        with client.responses.connect() as connection:
            assert ask(connection)[-1].type == "response.completed"


def agents_provider(gateway):
    return MultiProvider(
        openai_base_url=gateway.api, openai_api_key="any",
        openai_use_responses=True, openai_use_responses_websocket=True,
    )


@pytest.mark.parametrize("store", [None, False])
@pytest.mark.parametrize("stream", [False, True])
async def test_agents_run_on_one_connection(gateway, simulator, counts, stream, store):
    provider = agents_provider(gateway)
    config = RunConfig(tracing_disabled=True, model_provider=provider)
    agent = Agent("a", tools=[weather], model="gpt-5", model_settings=ModelSettings(store=store))
    await converse(agent, simulator, config, stream)
    assert counts["runs"] == 3
    await provider.aclose()


async def test_agents_hear_of_a_failure_and_go_on(gateway, simulator):
    provider = agents_provider(gateway)
    config = RunConfig(tracing_disabled=True, model_provider=provider)
    agent = Agent("a", model="gpt-5")
    before = Counts(simulator)
    with pytest.raises(Exception, match="boom"):
        await Runner.run(agent, sim(events=9, fail=5, error="boom"), run_config=config)
    assert before["runs"] == 1
    assert (await Runner.run(agent, sim(say="Fine."), run_config=config)).final_output == "Fine."
    await provider.aclose()

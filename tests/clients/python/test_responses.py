"""Responses with the `openai` package: whole, streamed, parsed, and in a loop with tools; then with
LangChain. What the model calls is scripted.
"""

import json

import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

from gateway import LONG_TEXT, call, sim, turn
from test_types import check


class Weather(BaseModel):
    """The weather of a place."""

    place: str
    days: int


WEATHER = openai.pydantic_function_tool(Weather)["function"] | {"type": "function"}
NOTE = {"type": "custom", "name": "note", "description": "Takes a note."}
TOOLS = [WEATHER, NOTE, {"type": "namespace", "name": "far", "description": "Far.", "tools": [WEATHER]}]
IN_OSLO = call("Weather", place="Osló 🙂", days=2)
NOTED = call("note", input='a "b"\nc')
FAR = call("far__Weather", place="x", days=1)


def create(client, **options):
    return client.responses.create(**{"model": "gpt-5", "input": "Hi"} | options)


# OpenAI's servers send these, though its types do not know them.
UNPUBLISHED = {"store": True, "frequency_penalty": 0, "presence_penalty": 0}
# Nothing is known of these here, and they may not be null.
LEFT_OUT = {
    "image", "input_transformations", "prompt_cache_diagnostics", "prompt_cache_options", "tool_usage"
}


def published(response):
    return {name: value for name, value in response.items() if name not in UNPUBLISHED}


def check_response(data):
    """Validates a response, which has every field; gives the object."""
    assert data.items() >= UNPUBLISHED.items()
    assert published(data).keys() | LEFT_OUT == set(Response.model_fields)
    return check(Response, published(data))


def check_event(data):
    """Validates an event; gives the object."""
    if "response" in data:
        check_response(data["response"])
        data = data | {"response": published(data["response"])}
    if data["type"] == "error":
        data = {name: value for name, value in data.items() if name != "error"}
    return check(ResponseStreamEvent, data)


def raw_events(client, **options):
    with client.responses.with_streaming_response.create(
        **{"model": "gpt-5", "input": "Hi", "stream": True} | options
    ) as response:
        lines = list(response.iter_lines())
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


@pytest.mark.parametrize("finish", ["stop", "length", "content_filter"])
@pytest.mark.parametrize("calls", [[], [IN_OSLO, NOTED, FAR]])
def test_a_response_and_its_events_have_the_types_of_the_sdk(client, simulator, finish, calls):
    answer = turn("Let me look.", *calls, finish=finish, events=30)
    simulator.turns(answer, answer)
    options = {"input": "Hi", "instructions": "Be brief.", "metadata": {"a": "b"}, "tools": TOOLS}
    raw = client.responses.with_raw_response.create(model="gpt-5", **options)
    response = check_response(json.loads(raw.text))
    assert response.output_text == "Let me look."
    assert response.status == ("completed" if finish == "stop" else "incomplete")
    kinds = ["message", "function_call", "custom_tool_call", "function_call"]
    assert [item.type for item in response.output] == kinds[: 1 + len(calls)]
    events = [check_event(event) for event in raw_events(client, **options)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == f"response.{response.status}"
    assert events[-1].response.output_text == response.output_text


async def test_a_long_text_of_all_kinds_of_characters(async_client):
    stream = await create(async_client, input=LONG_TEXT, stream=True)
    text = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
    assert text == LONG_TEXT
    assert (await create(async_client, input=LONG_TEXT)).output_text == LONG_TEXT


def test_the_stream_helper_gives_snapshots_and_the_final_response(client, simulator):
    simulator.turns(turn("So:", IN_OSLO, events=20))
    arguments = ""
    with client.responses.stream(model="gpt-5", input="Hi", tools=TOOLS) as stream:
        for event in stream:
            if event.type == "response.function_call_arguments.delta":
                arguments += event.delta
                assert event.snapshot == arguments
        final = stream.get_final_response()
    assert final.output_text == "So:"
    assert json.loads(arguments) == json.loads(final.output[1].arguments) == IN_OSLO["arguments"]


def test_parse_gives_objects(client, simulator):
    weather = Weather(place="Osló 🙂", days=2)
    question = sim(say=weather.model_dump_json())
    answer = client.responses.parse(model="gpt-5", input=question, text_format=Weather)
    assert answer.output_parsed == weather
    sent = simulator.last_run()["prompt_meta"]["response_format"]
    assert (sent["type"], sent["json_schema"]["strict"]) == ("json_schema", True)
    with client.responses.stream(model="gpt-5", input=question, text_format=Weather) as stream:
        assert stream.get_final_response().output_parsed == weather
    simulator.turns(turn("", IN_OSLO))
    answer = client.responses.parse(model="gpt-5", input="Hi", tools=[WEATHER])
    assert answer.output[0].parsed_arguments == weather.model_dump()


@pytest.mark.parametrize("stream", [False, True])
def test_an_agent_runs_its_tools_until_the_answer_is_there(client, simulator, stream):
    simulator.turns(turn("", IN_OSLO), turn("One more.", NOTED, FAR), turn("Rain."))
    conversation = [{"role": "user", "content": "How is it?"}]
    while True:
        response = create(client, input=conversation, tools=TOOLS, stream=stream, store=False)
        if stream:
            *_, last = response
            response = last.response
        conversation += response.output
        calls = [item for item in response.output if item.type != "message"]
        if not calls:
            break
        for made in calls:
            if made.type == "custom_tool_call":
                assert made.input == NOTED["arguments"]["input"]
                output = "noted"
            else:
                output = f"rain in {json.loads(made.arguments)['place']}"
            kind = f"{made.type}_output"
            conversation.append({"type": kind, "call_id": made.call_id, "output": output})
    assert response.output_text == "Rain."
    told = simulator.last_run()["prompt_meta"]["messages"]
    assert [one["role"] for one in told] == ["developer", "user", *["assistant", "user"] * 2]
    assert "rain in Osló 🙂" in told[3]["content"]
    assert "noted" in told[5]["content"] and "rain in x" in told[5]["content"]


@pytest.mark.parametrize(
    ("tool", "arguments", "kind", "field"),
    [
        ({"type": "shell", "environment": {"type": "local"}}, {"commands": ["ls"]}, "shell_call", "action"),
        ({"type": "local_shell"}, {"command": ["ls"]}, "local_shell_call", "action"),
        (
            {"type": "apply_patch"},
            {"type": "create_file", "path": "a", "diff": "+b"},
            "apply_patch_call",
            "operation",
        ),
    ],
)
def test_openais_own_tools_that_the_client_runs(client, simulator, tool, arguments, kind, field):
    hosted = {"type": "code_interpreter", "container": {"type": "auto"}}
    for _ in range(2):
        simulator.turns(turn("", call(tool["type"], **arguments)))
    whole = create(client, tools=[tool, hosted])
    with client.responses.stream(model="gpt-5", input="hi", tools=[tool, hosted]) as stream:
        streamed = stream.get_final_response()
    for item in [whole.output[0], streamed.output[0]]:
        assert item.type == kind
        assert arguments.items() <= getattr(item, field).to_dict().items()


def test_a_prompt_that_is_only_warmed_starts_no_run(client, counts):
    response = create(client, prompt_cache_options={"prewarm": True})
    assert (response.status, response.output, response.output_text) == ("completed", [], "")
    assert counts["runs"] == 0


def test_a_failure_before_the_answer_is_an_error(client, counts):
    for options, param in [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
    ]:
        with pytest.raises(openai.BadRequestError) as caught:
            create(client, **options)
        assert caught.value.param == param
    assert counts["runs"] == 0
    for look_up in [client.responses.retrieve, client.responses.delete, client.responses.cancel]:
        with pytest.raises(openai.NotFoundError, match="not stored"):
            look_up("resp_1")
    with pytest.raises(openai.NotFoundError, match="not stored"):
        client.responses.input_items.list("resp_1")


def test_a_failure_within_a_stream_is_told_in_full_besides(client):
    events = [check_event(event) for event in raw_events(client, input=sim(fail=3, error="it broke"))]
    *_, last = events
    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert (last.response.error.code, last.response.error.type) == ("server_error", "upstream_error")
    assert "it broke" in last.response.error.message


@tool
def weather(place: str, days: int) -> str:
    """The weather of a place."""
    return f"rain for {days} days in {place}"


@pytest.mark.parametrize("how", ["invoke", "stream"])
def test_langchain_with_responses(gateway, simulator, how):
    model = ChatOpenAI(model="gpt-5", base_url=gateway.api, api_key="any", use_responses_api=True)

    def ask(messages):
        if how == "invoke":
            return model.bind_tools([weather]).invoke(messages)
        first, *rest = model.bind_tools([weather]).stream(messages)
        return sum(rest, start=first)

    simulator.turns(turn("Let me look.", call("weather", place="Oslo", days=2)), turn("Rain."))
    messages = [HumanMessage("How is it?")]
    messages.append(ask(messages))
    [made] = messages[-1].tool_calls
    messages.append(weather.invoke(made))
    answer = ask(messages)
    assert answer.text == "Rain."
    assert answer.usage_metadata["total_tokens"] > 100
    assert "rain for 2 days in Oslo" in simulator.last_run()["prompt_meta"]["messages"][-1]["content"]

"""Tool calling with the `openai` package: by hand, with its helpers, and in a loop as agents run it.

What the model calls is scripted; how it has to write a call the simulator reads in its messages.
"""

import json

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from gateway import call, turn, user
from test_types import check, chunks, completion


class Weather(BaseModel):
    """The weather of a place."""

    place: str
    days: int


class Clock(BaseModel):
    """The time of a place."""

    place: str


TOOLS = [openai.pydantic_function_tool(Weather), openai.pydantic_function_tool(Clock)]
IN_OSLO = call("Weather", place="Osló 🙂", days=2)
ARGUMENTS = IN_OSLO["arguments"]


def named(name):
    """The choice of one tool."""
    return {"type": "function", "function": {"name": name}}


def tool_message(call_id, content=""):
    """What a tool gave back."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def run_tool(name, arguments):
    return {"Weather": lambda place, days: f"rain for {days} days in {place}"}[name](**arguments)


@pytest.mark.parametrize("text", ["", "Let me look."])
def test_a_call_has_the_types_of_the_sdk(client, simulator, text):
    simulator.turns(turn(text, IN_OSLO, call("Clock", place="Oslo")), turn(text, IN_OSLO))
    data = completion(client, "How is it?", tools=TOOLS)
    choice = check(ChatCompletion, data).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", text or None)
    calls = choice.message.tool_calls
    assert [call.function.name for call in calls] == ["Weather", "Clock"]
    assert json.loads(calls[0].function.arguments) == ARGUMENTS
    assert len({call.id for call in calls}) == 2
    streamed = [check(ChatCompletionChunk, chunk) for chunk in chunks(client, "Hi", tools=TOOLS)]
    assert streamed[-1].choices[0].finish_reason == "tool_calls"


def test_an_agent_runs_its_tools_until_the_answer_is_there(client, simulator):
    simulator.turns(
        turn("", IN_OSLO),
        turn("One more.", call("Weather", place="Rome", days=1)),
        turn("Rain in both."),
    )
    messages = user("How is it in Oslo and Rome?")
    while True:
        answer = client.chat.completions.create(model="gpt-5", messages=messages, tools=TOOLS)
        message = answer.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            break
        for made in message.tool_calls:
            result = run_tool(made.function.name, json.loads(made.function.arguments))
            messages.append(tool_message(made.id, result))
    assert message.content == "Rain in both."
    told = simulator.last_run()["prompt_meta"]["messages"]
    assert [one["role"] for one in told] == ["developer", "user", *["assistant", "user"] * 2]
    assert "rain for 2 days in Osló 🙂" in told[3]["content"]
    assert "rain for 1 days in Rome" in told[5]["content"]


async def read(stream):
    """A streamed answer put together as agents do it: its text and its calls."""
    text, calls = "", []
    async for chunk in stream:
        delta = chunk.choices[0].delta
        text += delta.content or ""
        for piece in delta.tool_calls or []:
            if piece.index == len(calls):
                function = {"name": piece.function.name, "arguments": ""}
                calls.append({"id": piece.id, "type": "function", "function": function})
            calls[piece.index]["function"]["arguments"] += piece.function.arguments or ""
    return text, calls


async def test_an_agent_may_stream(async_client, simulator):
    simulator.turns(turn("Let me look.", IN_OSLO), turn("Rain."))
    messages, texts, calls = user("How is it?"), [], None
    while calls != []:
        stream = await async_client.chat.completions.create(
            model="gpt-4o", messages=messages, tools=TOOLS, stream=True
        )
        text, calls = await read(stream)
        texts.append(text)
        messages.append({"role": "assistant", "content": text, "tool_calls": calls})
        for made in calls:
            function = made["function"]
            result = run_tool(function["name"], json.loads(function["arguments"]))
            messages.append(tool_message(made["id"], result))
    assert texts == ["Let me look.", "Rain."]


def test_the_stream_helper_tells_arguments_as_they_come_and_parses_them(client, simulator):
    simulator.turns(turn("", IN_OSLO, events=20))
    deltas = []
    with client.chat.completions.stream(model="gpt-4o", messages=user("Hi"), tools=TOOLS) as stream:
        for event in stream:
            if event.type == "tool_calls.function.arguments.delta":
                deltas.append(event.arguments_delta)
            elif event.type == "tool_calls.function.arguments.done":
                assert event.parsed_arguments == Weather(**ARGUMENTS)
    assert len(deltas) > 5 and json.loads("".join(deltas)) == ARGUMENTS
    made = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert made.function.parsed_arguments == Weather(**ARGUMENTS)


def test_parse_gives_the_arguments_as_objects(client, simulator):
    simulator.turns(turn("", IN_OSLO))
    answer = client.chat.completions.parse(model="gpt-4o", messages=user("Hi"), tools=TOOLS)
    made = answer.choices[0].message.tool_calls[0]
    assert made.function.parsed_arguments == Weather(**ARGUMENTS)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", named("Weather")])
def test_a_required_call_keeps_to_a_strict_schema(client, simulator, choice, stream):
    simulator.turns(turn("", IN_OSLO))
    options = {"model": "gpt-4o", "messages": user("Hi"), "tools": TOOLS, "tool_choice": choice}
    if stream:
        with client.chat.completions.stream(**options) as stream:
            answer = stream.get_final_completion()
    else:
        answer = client.chat.completions.create(**options)
    made = answer.choices[0].message.tool_calls
    assert [(m.function.name, json.loads(m.function.arguments)) for m in made] == [
        ("Weather", ARGUMENTS)
    ]
    schema = simulator.last_run()["prompt_meta"]["response_format"]["json_schema"]
    assert schema["strict"] is True


def test_no_call_is_made_where_none_may_be(client, simulator):
    answer = client.chat.completions.create(
        model="gpt-4o", messages=user("Hi"), tools=TOOLS, tool_choice="none"
    )
    assert (answer.choices[0].message.content, answer.choices[0].message.tool_calls) == ("Hi", None)
    assert len(simulator.last_run()["prompt_meta"]["messages"]) == 1


def test_a_custom_tool_takes_one_text(client, simulator):
    simulator.turns(turn("", call("run", input='print("hi")')))
    tools = [{"type": "custom", "custom": {"name": "run"}}]
    answer = client.chat.completions.create(model="gpt-4o", messages=user("Hi"), tools=tools)
    made = answer.choices[0].message.tool_calls[0]
    assert (made.type, made.custom.name, made.custom.input) == ("custom", "run", 'print("hi")')
    messages = [*user("Hi"), answer.choices[0].message, tool_message(made.id, "hi")]
    again = client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools)
    assert "hi" in again.choices[0].message.content


def test_the_functions_of_2023(client, simulator):
    functions = [tool["function"] for tool in TOOLS]
    simulator.turns(turn("", IN_OSLO), turn("Rain."))
    messages = user("Hi")
    answer = client.chat.completions.create(model="gpt-4o", messages=messages, functions=functions)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "function_call"
    assert json.loads(message.function_call.arguments) == ARGUMENTS
    messages += [message, {"role": "function", "name": "Weather", "content": "rain"}]
    answer = client.chat.completions.create(model="gpt-4o", messages=messages, functions=functions)
    assert answer.choices[0].message.content == "Rain."


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].custom.name"),
        ({"tools": TOOLS * 2}, "tools[2].function.name"),
        ({"tools": TOOLS, "tool_choice": named("x")}, "tool_choice"),
        ({"messages": [tool_message("x")]}, "messages[0].tool_call_id"),
    ],
)
def test_what_is_wrong_is_named(client, counts, options, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "gpt-4o", "messages": user("hi")} | options)
    assert caught.value.param == param
    assert counts["runs"] == 0

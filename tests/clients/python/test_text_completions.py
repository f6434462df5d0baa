"""The old text completions, by the `openai` package and by its types."""

import json

import openai
import pytest
from openai.types import Completion

from gateway import sim
from test_types import check


def ask(client, prompt, **options):
    return client.completions.create(model="gpt-4o", prompt=prompt, **options)


def read(stream, choices=1):
    """The texts of a stream's choices and the finish reasons that they were given."""
    texts, reasons = [""] * choices, [[] for _ in range(choices)]
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            reasons[choice.index] += [choice.finish_reason] if choice.finish_reason else []
    return texts, reasons


def test_a_whole_answer(client):
    answer = ask(client, "Hello there, world!", max_tokens=16, temperature=0.5)
    assert answer.id.startswith("cmpl-")
    assert answer.object == "text_completion"
    assert answer.choices[0].text == "Hello there, world!"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens > 0


def test_a_streamed_answer(client):
    assert read(ask(client, "Hello there, world!", stream=True)) == (
        ["Hello there, world!"],
        [["stop"]],
    )


def test_a_streamed_answer_ends_with_the_usage_when_asked(client):
    chunks = list(ask(client, "Hello", stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage == ask(client, "Hello").usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_several_prompts_and_choices(client):
    answer = ask(client, ["one", "two"], n=2)
    assert [choice.text for choice in answer.choices] == ["one", "one", "two", "two"]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    texts, reasons = read(ask(client, ["one", "two"], n=2, stream=True), 4)
    assert (texts, reasons) == (["one", "one", "two", "two"], [["stop"]] * 4)


def test_stop_and_echo(client):
    assert ask(client, "one two three", stop=" three").choices[0].text == "one two"
    assert ask(client, "one ", echo=True).choices[0].text == "one one "
    assert read(ask(client, "one ", echo=True, stream=True)) == (["one one "], [["stop"]])


@pytest.mark.parametrize(
    ("field", "value"), [("prompt", []), ("prompt", 7), ("temperature", 3), ("n", 99)]
)
def test_a_bad_request_names_the_field(client, field, value):
    body = {"model": "gpt-4o", "prompt": "hi"} | {field: value}
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**body)
    assert caught.value.param == field


def test_a_failure_within_a_stream_is_raised(client):
    with pytest.raises(openai.APIError, match="it broke"):
        read(ask(client, sim(fail=3, error="it broke"), stream=True))


@pytest.mark.parametrize("finish", ["stop", "length", "content_filter", "something_else"])
def test_a_whole_answer_has_exactly_the_declared_fields(client, finish):
    raw = client.completions.with_raw_response.create(model="gpt-4o", prompt=sim(finish=finish))
    check(Completion, json.loads(raw.text))


@pytest.mark.parametrize("usage", [False, True])
def test_the_chunks_of_a_stream_have_exactly_the_declared_fields(client, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}
    with client.completions.with_streaming_response.create(
        model="gpt-4o", prompt=sim(events=3), stream=True, **options
    ) as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines.pop() == "data: [DONE]"
    for line in lines:
        chunk = json.loads(line.removeprefix("data: "))
        for choice in chunk["choices"]:
            # The type is that of a whole answer, which always has a reason.
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        check(Completion, chunk)

"""The `openai` package's synchronous client."""

import time

import openai
import pytest
from pydantic import BaseModel

from gateway import LONG_TEXT, sim, user


def ask(client, content, **options):
    return client.chat.completions.create(model="gpt-4o", messages=user(content), **options)


def read(stream):
    """The text of a stream's choice 0 and the finish reasons that it was given."""
    text, reasons = "", []
    for chunk in stream:
        for choice in chunk.choices:
            if choice.index == 0:
                text += choice.delta.content or ""
                reasons += [choice.finish_reason] if choice.finish_reason else []
    return text, reasons


def test_models_are_listed(client):
    models = client.models.list()
    assert "gpt-4o" in [model.id for model in models]
    assert [model.id for model in models.data] == [model.id for model in client.models.list()]


def test_a_model_is_retrieved(client):
    model = client.models.retrieve("gpt-4o")
    assert (model.id, model.object, model.owned_by) == ("gpt-4o", "model", "openai")
    assert client.models.retrieve("gpt-4o-2024-08-06").id == "gpt-4o-2024-08-06"


@pytest.mark.parametrize("name", ["gpt-9", "some/model", "ünknown"])
def test_an_unknown_model_is_not_found(client, name):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve(name)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=name, messages=user("hi"))
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.type == "invalid_request_error"
    assert name in caught.value.message


def test_a_whole_answer(client):
    answer = ask(client, "Hello there, world!")
    assert answer.choices[0].message.content == "Hello there, world!"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-4o"
    assert abs(answer.created - time.time()) < 60
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


def test_an_answer_that_was_cut_for_its_length_says_so(client):
    assert ask(client, sim(finish="length")).choices[0].finish_reason == "length"
    assert read(ask(client, sim(finish="length"), stream=True))[1] == ["length"]


def test_a_streamed_answer(client):
    chunks = list(ask(client, "Hello there, world!", stream=True))
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:])
    assert read(chunks) == ("Hello there, world!", ["stop"])
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_streamed_answer_ends_with_the_usage_when_asked(client):
    chunks = list(ask(client, "Hello", stream=True, stream_options={"include_usage": True}))
    assert [bool(chunk.choices) for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].usage.total_tokens > 0
    assert chunks[-1].usage == ask(client, "Hello").usage


def test_the_text_comes_as_it_is_written_not_at_the_end(client):
    began = time.monotonic()
    first = None
    for chunk in ask(client, sim(events=10, delay=100, first=0), stream=True):
        if first is None and chunk.choices[0].delta.content:
            first = time.monotonic() - began
    assert first < 0.5 < time.monotonic() - began


@pytest.mark.parametrize("text", ["unicode", "lorem", "code"])
@pytest.mark.parametrize("form", [{}, {"as": "string"}, {"repeat": 1}, {"stale": 1}])
def test_streamed_and_whole_give_the_same_text(client, text, form):
    message = sim(text=text, delay=0, **form)
    whole = ask(client, message).choices[0].message.content
    assert read(ask(client, message, stream=True)) == (whole, ["stop"])


def test_a_long_text_of_all_kinds_of_characters_comes_back_unchanged(client):
    assert ask(client, LONG_TEXT).choices[0].message.content == LONG_TEXT
    assert read(ask(client, LONG_TEXT, stream=True)) == (LONG_TEXT, ["stop"])


def test_a_conversation_with_all_roles_and_content_parts(client, simulator):
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "1+1?"}]},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "2+2?"}]},
    ]
    answer = client.chat.completions.create(model="gpt-4o", messages=messages, temperature=0.5)
    assert answer.choices[0].message.content == "And 2+2?"
    meta = simulator.last_run()["prompt_meta"]
    assert [message["role"] for message in meta["messages"]] == ["system", "user", "assistant", "user"]
    assert meta["temperature"] == 0.5


def test_several_choices_whole(client, counts):
    answer = ask(client, "one two three", n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert {choice.message.content for choice in answer.choices} == {"one two three"}
    assert counts["runs"] == 2


def test_several_choices_streamed(client):
    texts, reasons = ["", ""], [[], []]
    for chunk in ask(client, "one two three", n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] += [choice.finish_reason] if choice.finish_reason else []
    assert texts == ["one two three"] * 2
    assert reasons == [["stop"]] * 2


@pytest.mark.parametrize("stop", ["three", ["x", "three"], [" three"], "thr"])
def test_a_stop_text_ends_the_answer(client, stop):
    answer = ask(client, "one two three four", stop=stop)
    assert answer.choices[0].message.content.strip() == "one two"
    assert answer.choices[0].finish_reason == "stop"
    text, reasons = read(ask(client, "one two three four", stop=stop, stream=True))
    assert (text.strip(), reasons) == ("one two", ["stop"])


class Person(BaseModel):
    name: str
    age: int
    friends: list[str]


PERSON = Person(name="Zoë", age=7, friends=["Ann", "Bob"])


def test_a_structured_answer_is_parsed(client, simulator):
    answer = client.chat.completions.parse(
        model="gpt-4o", messages=user(sim(say=PERSON.model_dump_json())), response_format=Person
    )
    assert answer.choices[0].message.parsed == PERSON
    sent = simulator.last_run()["prompt_meta"]["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["name"] == "Person"
    schema = sent["json_schema"]["schema"]
    # A model answers in the order of the schema.
    assert list(schema["properties"]) == schema["required"] == ["name", "age", "friends"]


def test_a_structured_answer_is_parsed_from_a_stream(client):
    message = sim(say=PERSON.model_dump_json(), events=9)
    with client.chat.completions.stream(
        model="gpt-4o", messages=user(message), response_format=Person
    ) as stream:
        done = [event for event in stream if event.type == "content.done"]
        assert [event.parsed for event in done] == [PERSON]
        assert stream.get_final_completion().choices[0].message.parsed == PERSON


def test_an_answer_that_was_cut_is_not_parsed(client):
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(
            model="gpt-4o",
            messages=user(sim(say='{"name":"Z', finish="length")),
            response_format=Person,
        )


def test_the_stream_helper_gives_events_and_the_final_completion(client):
    with client.chat.completions.stream(
        model="gpt-4o",
        messages=user("Hello there, world!"),
        stream_options={"include_usage": True},
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    deltas = [event for event in events if event.type == "content.delta"]
    assert "".join(event.delta for event in deltas) == deltas[-1].snapshot == "Hello there, world!"
    # The first one is the role's, with no text in it yet.
    assert all(event.delta for event in deltas[1:])
    done = [event for event in events if event.type == "content.done"]
    assert [event.content for event in done] == ["Hello there, world!"]
    assert final.choices[0].message.content == "Hello there, world!"
    assert final.choices[0].message.role == "assistant"
    assert final.choices[0].finish_reason == "stop"
    assert final.usage.total_tokens > 0


def test_the_stream_helper_keeps_choices_apart(client):
    with client.chat.completions.stream(model="gpt-4o", messages=user("a b c"), n=3) as stream:
        final = stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == ["a b c"] * 3
    assert [choice.message.role for choice in final.choices] == ["assistant"] * 3


def test_a_raw_response_has_the_headers(client):
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=user("hi"), seed=7
    )
    assert raw.headers["x-request-id"]
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.headers["content-type"].startswith("application/json")
    assert raw.headers["x-langfast2api-ignored"] == "seed"
    answer = raw.parse()
    assert answer.choices[0].message.content == "hi"
    assert answer._request_id == raw.headers["x-request-id"]


def test_a_streaming_response_has_the_headers_and_the_lines(client):
    with client.chat.completions.with_streaming_response.create(
        model="gpt-4o", messages=user("hi"), stream=True
    ) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["x-request-id"]
        lines = list(response.iter_lines())
    assert all(line == "" or line.startswith("data: ") for line in lines)
    assert [line for line in lines if line][-1] == "data: [DONE]"


def test_many_requests_on_one_connection(client):
    ports = set()
    for number in range(50):
        question = user(f"number {number}")
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=question)
        assert raw.parse().choices[0].message.content == f"number {number}"
        ports.add(raw.http_response.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(ports) == 1

"""Answers checked against the `openai` package's own types, strictly: every field is declared there,
has exactly its type, and every required one is there. The SDK itself is lenient in all of this."""

import json

import openai
import pytest
from openai.types import CompletionUsage, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.shared import ErrorObject
from pydantic import BaseModel, TypeAdapter

from gateway import sim, user


def check(kind, data):
    """Validates `data` and gives the object."""
    value = TypeAdapter(kind).validate_json(json.dumps(data), strict=True)
    assert_no_extras(value)
    return value


def assert_no_extras(value, path=""):
    if isinstance(value, BaseModel):
        path = f"{path}{type(value).__name__}"
        assert not value.model_extra, f"{path} has {value.model_extra}"
        for name in value.model_fields_set:
            assert_no_extras(getattr(value, name), f"{path}.{name}: ")
    elif isinstance(value, list):
        for item in value:
            assert_no_extras(item, path)


def get(client, path):
    return client.get(path, cast_to=object)


def completion(client, content, **options):
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=user(content), **options
    )
    return json.loads(raw.text)


def chunks(client, content, **options):
    with client.chat.completions.with_streaming_response.create(
        model="gpt-4o", messages=user(content), stream=True, **options
    ) as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize("options", [{}, {"n": 3}, {"stop": "4"}])
@pytest.mark.parametrize("finish", ["stop", "length", "content_filter", "something_else", "none"])
def test_a_completion(client, options, finish):
    data = completion(client, sim(events=6, finish=finish), **options)
    answer = check(ChatCompletion, data)
    assert {"id", "object", "created", "model", "choices", "usage", "service_tier"} == data.keys()
    for choice in data["choices"]:
        assert {"index", "message", "logprobs", "finish_reason"} == choice.keys()
        assert {"role", "content", "refusal", "annotations"} == choice["message"].keys()
    assert answer.id.startswith("chatcmpl-")
    check(CompletionUsage, data["usage"])


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("options", [{}, {"n": 3}, {"stop": "4"}])
@pytest.mark.parametrize("finish", ["stop", "length", "content_filter", "something_else", "none"])
def test_the_chunks_of_a_stream(client, usage, options, finish):
    options = options | ({"stream_options": {"include_usage": True}} if usage else {})
    data = chunks(client, sim(events=6, finish=finish), **options)
    seen = {}
    for chunk in data:
        check(ChatCompletionChunk, chunk)
        expected = {"id", "object", "created", "model", "service_tier", "choices"}
        assert chunk.keys() == expected | ({"usage"} if usage else set())
        assert [chunk[name] for name in ("id", "created", "model")] == [
            data[0][name] for name in ("id", "created", "model")
        ]
        for choice in chunk["choices"]:
            assert choice.keys() == {"index", "delta", "logprobs", "finish_reason"}
            seen.setdefault(choice["index"], []).append(choice)
    assert sorted(seen) == list(range(options.get("n", 1)))
    for choices in seen.values():
        assert choices[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert all(choice["delta"].keys() == {"content"} for choice in choices[1:-1])
        assert all(choice["delta"]["content"] for choice in choices[1:-1])
        assert choices[-1]["delta"] == {}
        assert [bool(c["finish_reason"]) for c in choices] == [False] * (len(choices) - 1) + [True]
    if usage:
        assert data[-1]["choices"] == []
        assert all(chunk["usage"] is None for chunk in data[:-1])
        check(CompletionUsage, data[-1]["usage"])


def test_the_check_is_strict(client):
    good = completion(client, "hi")
    check(ChatCompletion, good)
    for bad in (
        good | {"surplus": 1},
        good | {"created": str(good["created"])},
        good | {"usage": good["usage"] | {"surplus": 1}},
        good | {"choices": [good["choices"][0] | {"finish_reason": "end"}]},
        {name: value for name, value in good.items() if name != "model"},
    ):
        with pytest.raises((AssertionError, ValueError)):
            check(ChatCompletion, bad)


def test_the_models(client):
    data = get(client, "/models")
    assert data.keys() == {"object", "data"} and data["object"] == "list"
    for model in data["data"]:
        assert check(Model, model).created > 1_000_000_000
        assert model.keys() == {"id", "object", "created", "owned_by", "shutdown_date"}
        assert check(Model, get(client, f"/models/{model['id']}")) == check(Model, model)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"model": "gpt-9", "messages": user("hi")},
        {"model": "gpt-4o", "messages": []},
        {"model": "gpt-4o", "messages": [{"role": "nobody", "content": "hi"}]},
        {"model": "gpt-4o", "messages": user("hi"), "temperature": 3},
        {"model": "gpt-4o", "messages": user("hi"), "temperature": "hot"},
        {"model": "gpt-4o", "messages": user("hi"), "tools": [{"type": "function"}]},
        {"model": "o1-mini", "messages": user("hi"), "response_format": {"type": "json_object"}},
        {"model": "gpt-4o", "messages": user(sim(error="no luck"))},
        {"model": "gpt-4o", "messages": user(sim(http=500))},
        {"model": "gpt-4o", "messages": user(sim(http=418))},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error(client, body, stream):
    with pytest.raises(openai.APIStatusError) as caught:
        client.post("/chat/completions", cast_to=object, body=body | {"stream": stream})
    data = caught.value.response.json()
    assert data.keys() == {"error"}
    assert data["error"].keys() == {"message", "type", "param", "code"}
    check(ErrorObject, data["error"])
    assert caught.value.request_id


@pytest.mark.parametrize("path", ["/nothing", "/models/gpt-9", "/embeddings"])
def test_an_error_of_another_url(client, path):
    with pytest.raises(openai.NotFoundError) as caught:
        client.get(path, cast_to=object)
    check(ErrorObject, caught.value.response.json()["error"])


def test_an_error_within_a_stream(client):
    with client.chat.completions.with_streaming_response.create(
        model="gpt-4o", messages=user(sim(fail=3, error="it broke")), stream=True
    ) as response:
        lines = [line for line in response.iter_lines() if line]
    data = [json.loads(line.removeprefix("data: ")) for line in lines]
    for chunk in data[:-1]:
        assert check(ChatCompletionChunk, chunk).choices[0].finish_reason is None
    assert data[-1].keys() == {"error"}
    assert data[-1]["error"].keys() == {"message", "type", "param", "code"}
    assert "it broke" in check(ErrorObject, data[-1]["error"]).message

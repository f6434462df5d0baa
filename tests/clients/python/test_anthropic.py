"""The `anthropic` package: messages whole and streamed, its loop of tools, what it raises, and what it
sends again. Answers are checked against its own types, strictly.

What the model calls is scripted; how it has to write a call the simulator reads in its messages.
"""

import json

import anthropic
import pytest
from anthropic import beta_tool
from anthropic.types import Message, MessageTokensCount, ModelInfo, RawMessageStreamEvent
from pydantic import BaseModel

from gateway import LONG_TEXT, Gateway, call, sim, turn, user
from test_types import check

MODEL = "claude-opus-4-8"


@pytest.fixture(scope="module")
def claude(simulator):
    """The program, which serves every claude-… with gpt-4o."""
    aliases = ["--model-aliases", "claude-*=gpt-4o", "--unknown-models", "refuse"]
    gateway = Gateway(simulator, *aliases, "--keep-alive", "0.2")
    yield gateway
    gateway.stop()


@pytest.fixture
def client(claude):
    with anthropic.Anthropic(base_url=claude.url, api_key="any") as client:
        ask(client, "hi")
        yield client


def ask(client, content, **options):
    return client.messages.create(
        **{"model": MODEL, "max_tokens": 1000, "messages": user(content)} | options
    )


TOOLS = [
    {
        "name": "weather",
        "description": "The weather of a place.",
        "input_schema": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["place", "days"],
        },
    }
]
IN_OSLO = call("weather", place="Osló 🙂", days=2)
IN_ROME = call("weather", place="Rome", days=1)

both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def test_a_message_has_the_types_of_the_sdk(client, simulator):
    for content in ["Hello, wörld!", sim(finish="length"), sim(say=""), LONG_TEXT]:
        raw = client.messages.with_raw_response.create(
            model=MODEL, max_tokens=1000, messages=user(content)
        )
        check(Message, json.loads(raw.text()))
    simulator.turns(turn("So:", IN_OSLO))
    raw = client.messages.with_raw_response.create(
        model=MODEL, max_tokens=1000, messages=user("Hi"), tools=TOOLS
    )
    message = check(Message, json.loads(raw.text()))
    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert raw.headers["request-id"] == raw.parse()._request_id


def test_events_have_the_types_of_the_sdk(client, simulator):
    simulator.turns(turn("So:", IN_OSLO, IN_ROME, events=30))
    with client.messages.with_streaming_response.create(
        model=MODEL, max_tokens=1000, messages=user("Hi"), tools=TOOLS, stream=True
    ) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    events = [check(RawMessageStreamEvent, json.loads(line[6:])) for line in lines]
    kinds = [event.type for event in events]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 3


def test_the_stream_helper_gives_the_message_of_a_whole_answer(client):
    whole = ask(client, LONG_TEXT)
    with client.messages.stream(
        model=MODEL, max_tokens=1000, messages=user(LONG_TEXT)
    ) as stream:
        assert "".join(stream.text_stream) == LONG_TEXT
        streamed = stream.get_final_message()
    assert (streamed.content[0].text, streamed.usage) == (whole.content[0].text, whole.usage)
    assert (whole.model, whole.stop_reason) == (MODEL, "end_turn")


async def test_the_async_client_streams(claude):
    async with anthropic.AsyncAnthropic(base_url=claude.url, auth_token="any") as client:
        texts = []
        async with client.messages.stream(
            model=MODEL, max_tokens=1000, messages=user(sim(events=20))
        ) as stream:
            async for text in stream.text_stream:
                texts.append(text)
        assert len(texts) > 10
        assert (await stream.get_final_message()).stop_reason == "end_turn"


def test_a_stop_sequence_is_named(client):
    message = ask(client, sim(events=20), stop_sequences=["x", "5 "])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "5 ")
    assert message.content[0].text == "1 2 3 4 "


def test_pings_in_silence_are_no_trouble(client):
    message = sim(events=4, silence=1000)
    with client.messages.with_streaming_response.create(
        model=MODEL, max_tokens=1000, messages=user(message), stream=True
    ) as response:
        assert list(response.iter_lines()).count("event: ping") >= 3
    with client.messages.stream(model=MODEL, max_tokens=9, messages=user(message)) as stream:
        assert stream.get_final_text() == "1 2 3 4 "


@both
def test_an_agent_runs_its_tools_until_the_answer_is_there(client, simulator, stream):
    simulator.turns(
        turn("Let me look.", IN_OSLO, IN_ROME), turn("", IN_ROME, events=20), turn("Rain.")
    )
    messages = user("How is it?")
    while True:
        options = {"model": MODEL, "max_tokens": 1000, "messages": messages, "tools": TOOLS}
        if stream:
            with client.messages.stream(**options) as events:
                message = events.get_final_message()
        else:
            message = client.messages.create(**options)
        messages.append({"role": "assistant", "content": message.content})
        if message.stop_reason != "tool_use":
            break
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": f"rain in {block.input['place']}"}
            for block in message.content
            if block.type == "tool_use"
        ]
        messages.append({"role": "user", "content": results})
    assert message.content[0].text == "Rain."
    told = simulator.last_run()["prompt_meta"]["messages"]
    assert [one["role"] for one in told] == ["system", "user", *["assistant", "user"] * 2]
    assert "rain in Osló 🙂" in told[3]["content"] and "rain in Rome" in told[3]["content"]


@both
def test_the_tool_runner_runs_functions(client, simulator, stream):
    asked = []

    @beta_tool
    def weather(place: str, days: int) -> str:
        """The weather of a place."""
        asked.append((place, days))
        if place == "Rome":
            raise ValueError("no such place")
        return "rain"

    simulator.turns(turn("", IN_OSLO), turn("Hm.", IN_ROME), turn("Rain, or not."))
    runner = client.beta.messages.tool_runner(
        model=MODEL, max_tokens=1000, messages=user("How is it?"), tools=[weather], stream=stream
    )
    assert runner.until_done().content[0].text == "Rain, or not."
    assert asked == [("Osló 🙂", 2), ("Rome", 1)]
    told = simulator.last_run()["prompt_meta"]["messages"]
    assert 'error="true"' in told[-1]["content"] and "no such place" in told[-1]["content"]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_call_may_be_required(client, simulator, choice):
    simulator.turns(turn("", IN_OSLO))
    message = ask(client, "Hi", tools=TOOLS, tool_choice=choice)
    assert [block.input for block in message.content] == [IN_OSLO["arguments"]]


class Joke(BaseModel):
    setup: str
    punchline: str


def test_parse_gives_an_object(client):
    joke = Joke(setup="Why?", punchline="Därför 🙂")
    message = client.messages.parse(
        model=MODEL,
        max_tokens=1000,
        messages=user(sim(say=joke.model_dump_json())),
        output_format=Joke,
    )
    assert message.parsed_output == joke


def test_tokens_are_counted_without_a_run(client, counts):
    raw = client.messages.with_raw_response.count_tokens(
        model=MODEL, messages=user("Hello, wörld!"), system="Be brief."
    )
    counted = check(MessageTokensCount, json.loads(raw.text()))
    assert counts["http_requests"] == 0
    answer = ask(client, "Hello, wörld!", system="Be brief.")
    assert answer.usage.input_tokens == counted.input_tokens


def test_models_are_listed(client):
    models = list(client.models.list())
    assert len(models) == 17
    raw = client.models.with_raw_response.retrieve("gpt-4o")
    assert check(ModelInfo, json.loads(raw.text())) in models


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"extra_body": {"temperature": 2}}, "temperature"),
        (
            {"messages": user([{"type": "image", "source": {"type": "url", "url": "http://x"}}])},
            "messages[0].content[0]",
        ),
    ],
)
def test_a_bad_request_names_the_field_and_starts_nothing(client, counts, options, named):
    with pytest.raises(anthropic.BadRequestError, match="invalid_request_error") as caught:
        ask(client, "hi", **options)
    assert f"`{named}`" in caught.value.message
    assert caught.value.request_id.startswith("req_")
    assert counts["http_requests"] == 0


def test_what_anthropics_servers_would_do_is_left_out(client, counts):
    hosted = [{"type": "web_search_20250305", "name": "web_search"}]
    answer = client.messages.with_raw_response.create(
        model="gpt-4o", max_tokens=100, messages=user("hi"), tools=hosted
    )
    assert answer.headers["x-langfast2api-ignored"] == "tools.web_search"
    assert answer.parse().content[0].text == "hi"
    assert counts["runs"] == 1


def test_with_no_tokens_the_message_is_empty_and_nothing_is_started(client, counts):
    message = ask(client, "hi", max_tokens=0)
    assert (message.content, message.stop_reason) == ([], "max_tokens")
    with client.messages.stream(model="gpt-4o", max_tokens=0, messages=user("hi")) as stream:
        assert stream.get_final_message().stop_reason == "max_tokens"
    assert counts["runs"] == 0


def test_an_unknown_model_and_an_unknown_url(client):
    with pytest.raises(anthropic.NotFoundError, match="not_found_error"):
        ask(client, "hi", model="gemini")
    with pytest.raises(anthropic.NotFoundError, match="not_found_error"):
        client.messages.batches.list()


def test_a_wrong_key(simulator, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("secret")
    gateway = Gateway(simulator, "--api-keys-file", keys)
    try:
        with anthropic.Anthropic(base_url=gateway.url, api_key="wrong") as client:
            with pytest.raises(anthropic.AuthenticationError, match="authentication_error"):
                ask(client, "hi", model="gpt-4o")
        for key in [{"api_key": "secret"}, {"auth_token": "secret"}]:
            with anthropic.Anthropic(base_url=gateway.url, **key) as client:
                assert ask(client, "hi", model="gpt-4o").content[0].text == "hi"
    finally:
        gateway.stop()


@both
def test_what_was_not_started_is_tried_again(client, simulator, counts, stream):
    simulator.fault("run", status=429, headers={"retry-after": "1"}, times=2)
    options = {"model": MODEL, "max_tokens": 9, "messages": user("hi")}
    if stream:
        with client.messages.stream(**options) as events:
            assert events.get_final_text() == "hi"
    else:
        assert client.messages.create(**options).content[0].text == "hi"
    assert (counts["http_requests"], counts["runs"]) == (3, 1)


@both
def test_a_spent_quota_is_not_tried_again(client, simulator, counts, stream):
    # It is remembered, for a model that no other test uses.
    fault = {"status": 429, "body": {"message": "Daily limit reached for this model"}}
    simulator.fault("run", times=3, **fault)
    with pytest.raises(anthropic.RateLimitError, match="rate_limit_error"):
        ask(client, "hi", stream=stream, model="o3" if stream else "o1")
    assert counts["http_requests"] == 1


@pytest.mark.parametrize(
    ("fault", "raised", "kind"),
    [
        ({"status": 500}, anthropic.InternalServerError, "api_error"),
        ({"kind": "reset"}, anthropic.InternalServerError, "api_error"),
    ],
)
@both
def test_what_may_have_been_started_is_not(
    client, simulator, counts, fault, raised, kind, stream
):
    simulator.fault("run", times=3, **fault)
    with pytest.raises(raised, match=kind):
        ask(client, "hi", stream=stream)
    assert counts["http_requests"] == 1


def test_a_failure_within_a_stream_is_raised(client):
    seen = ""
    with pytest.raises(anthropic.APIStatusError, match="it broke"):
        with client.messages.stream(
            model=MODEL, max_tokens=9, messages=user(sim(fail=4, error="it broke"))
        ) as stream:
            for text in stream.text_stream:
                seen += text
    assert seen == "1 2 3 4 "

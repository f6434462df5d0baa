"""The `openai` package's clients for Azure, with models and aliases as deployments."""

import openai
import pytest

from gateway import LONG_TEXT, Gateway, call, sim, turn, user

VERSION = "2025-04-01-preview"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            },
        },
    }
]


@pytest.fixture(scope="module")
def azure_gateway(simulator):
    gateway = Gateway(simulator, "--unknown-models", "refuse", "--model-aliases", "my-chat=gpt-4o")
    yield gateway
    gateway.stop()


@pytest.fixture
def azure(azure_gateway):
    """Makes clients whose models are deployments, or that have one for all calls."""
    made = []

    def make(path="", **options):
        options = {"api_key": "any", "api_version": VERSION, **options}
        made.append(openai.AzureOpenAI(azure_endpoint=azure_gateway.url + path, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.mark.parametrize("path", ["", "/", "/openai", "/openai/", "/v1"])
@pytest.mark.parametrize("options", [{}, {"azure_deployment": "my-chat"}])
def test_a_deployment_is_an_alias_whatever_the_endpoint_ends_with(azure, simulator, path, options):
    client = azure(path, **options)
    answer = client.chat.completions.create(model="my-chat", messages=user("Hello"))
    assert (answer.choices[0].message.content, answer.model) == ("Hello", "my-chat")
    assert simulator.last_run()["prompt_meta"]["model"] == "gpt-4o"


def test_the_deployment_of_the_client_counts(azure):
    raw = azure(azure_deployment="my-chat").chat.completions.with_raw_response
    answer = raw.create(model="gpt-5", messages=user("Hello"))
    assert answer.parse().model == "my-chat"
    assert answer.headers["x-langfast2api-ignored"] == "model"


def test_a_streamed_answer(azure):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    text, usage = "", None
    for chunk in azure().chat.completions.create(model="my-chat", messages=user(LONG_TEXT), **options):
        assert chunk.model == "my-chat"
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert text == LONG_TEXT
    assert usage.completion_tokens > 0


def test_a_tool_is_called_and_its_result_answered(azure, simulator):
    simulator.turns(turn("", call("add", a=2, b=3)), turn("5"))
    client, messages = azure(), user("2 + 3")
    ask = {"model": "my-chat", "tools": TOOLS}
    message = client.chat.completions.create(messages=messages, **ask).choices[0].message
    [made] = message.tool_calls
    assert (made.function.name, made.function.arguments) == ("add", '{"a":2,"b":3}')
    messages += [message, {"role": "tool", "tool_call_id": made.id, "content": "5"}]
    assert client.chat.completions.create(messages=messages, **ask).choices[0].message.content == "5"


def test_text_completions_and_responses(azure):
    for client in [azure(), azure(azure_deployment="my-chat")]:
        text = client.completions.create(model="my-chat", prompt="Hello")
        assert text.choices[0].text == "Hello"
        answer = client.responses.create(model="my-chat", input="Hello", store=False)
        assert answer.output_text == "Hello"
        with client.responses.stream(model="my-chat", input="Hello", store=False) as stream:
            assert stream.get_final_response().output_text == "Hello"


def test_models_and_aliases_are_listed_as_deployments(azure):
    for client in [azure(), azure(azure_deployment="my-chat")]:
        assert {"my-chat", "gpt-4o"} <= {model.id for model in client.models.list()}
        assert client.models.retrieve("my-chat").id == "my-chat"


def test_errors_are_raised_as_their_kinds(azure, simulator):
    client = azure(max_retries=0)
    with pytest.raises(openai.NotFoundError, match="--model-aliases no-such=NAME") as caught:
        client.chat.completions.create(model="no-such", messages=user("Hello"))
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="Embeddings are not served here"):
        client.embeddings.create(model="my-chat", input="Hello")
    # It is remembered, for a model that no other test uses.
    simulator.fault("run", status=429, body='{"error":"Daily limit reached for this model"}')
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="o1", messages=user("Hello"))
    assert caught.value.code == "insufficient_quota"
    with pytest.raises(openai.APIError):
        failing = user(sim(text="lorem", fail=3))
        list(client.chat.completions.create(model="my-chat", messages=failing, stream=True))


def test_a_key_comes_in_azures_field_or_as_a_token_of_its_directory(simulator, start_gateway, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-16-letters")
    gateway = start_gateway("--api-keys-file", keys)
    for given, is_right in [
        ({"api_key": "a-key-of-16-letters"}, True),
        ({"azure_ad_token": "a-key-of-16-letters"}, True),
        ({"azure_ad_token_provider": lambda: "a-key-of-16-letters"}, True),
        ({"api_key": "another"}, False),
        ({"azure_ad_token": "another"}, False),
    ]:
        options = {"azure_endpoint": gateway.url, "api_version": VERSION, **given}
        with openai.AzureOpenAI(**options) as client:
            if is_right:
                answer = client.chat.completions.create(model="gpt-4o", messages=user("Hello"))
                assert answer.choices[0].message.content == "Hello"
            else:
                with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
                    client.models.list()


async def test_the_asynchronous_client(azure_gateway):
    options = {"azure_endpoint": azure_gateway.url, "api_key": "any", "api_version": VERSION}
    async with openai.AsyncAzureOpenAI(**options) as client:
        answer = await client.chat.completions.create(model="my-chat", messages=user("Hello"))
        assert (answer.choices[0].message.content, answer.model) == ("Hello", "my-chat")
        stream = await client.chat.completions.create(
            model="my-chat", messages=user(LONG_TEXT), stream=True
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == LONG_TEXT
        answer = await client.responses.create(model="my-chat", input="Hello", store=False)
        assert answer.output_text == "Hello"
        assert "my-chat" in [model.id async for model in client.models.list()]


def test_azures_newer_urls_are_for_the_plain_client(azure_gateway):
    with openai.OpenAI(base_url=f"{azure_gateway.url}/openai/v1/", api_key="any") as client:
        answer = client.chat.completions.create(model="my-chat", messages=user("Hello"))
        assert (answer.choices[0].message.content, answer.model) == ("Hello", "my-chat")
        assert client.responses.create(model="my-chat", input="Hi", store=False).output_text == "Hi"

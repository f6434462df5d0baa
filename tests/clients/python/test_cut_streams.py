"""Streams that fail after some text: every client raises an error, none takes the text so far for the
answer, and none asks again by itself. And those that do not fail, with the clients that no other test has."""

import agents
import openai
import pytest
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret
from langchain_openai import ChatOpenAI
from openai.types.responses import ResponseErrorEvent

from gateway import sim
from test_responses import raw_events
from test_types import check

MESSAGE = "LangFast failed to run the prompt: it broke"
CUT = sim(fail=3, error="it broke")

agents.set_tracing_disabled(True)


def openai_responses(gateway, message):
    with openai.OpenAI(base_url=gateway.api, api_key="any") as client:
        return list(client.responses.create(model="gpt-5", input=message, stream=True))


def openai_responses_stream(gateway, message):
    with openai.OpenAI(base_url=gateway.api, api_key="any") as client:
        with client.responses.stream(model="gpt-5", input=message) as stream:
            return stream.get_final_response()


def haystack(generator):
    def ask(gateway, message):
        key = Secret.from_token("any")
        model = generator(
            model="gpt-5", api_key=key, api_base_url=gateway.api, streaming_callback=lambda _: None
        )
        return model.run([ChatMessage.from_user(message)])

    return ask


def langchain(**options):
    def ask(gateway, message):
        model = ChatOpenAI(model="gpt-5", base_url=gateway.api, api_key="any", **options)
        return list(model.stream(message))

    return ask


WAYS = {
    "openai, responses": openai_responses,
    "openai, responses.stream()": openai_responses_stream,
    "Haystack, responses": haystack(OpenAIResponsesChatGenerator),
    "Haystack, chat": haystack(OpenAIChatGenerator),
    "LangChain, responses": langchain(use_responses_api=True),
    "LangChain, chat": langchain(),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_client_raises_the_error(gateway, counts, way):
    with pytest.raises(openai.APIError, match=MESSAGE):
        WAYS[way](gateway, CUT)
    assert counts["runs"] == 1


@pytest.mark.parametrize("way", ["Haystack, responses", "Haystack, chat"])
def test_haystack_gives_an_answer(gateway, way):
    [reply] = WAYS[way](gateway, "Hello, you there")["replies"]
    assert reply.text == "Hello, you there"


async def run_agent(model, message):
    result = Runner.run_streamed(Agent(name="a", model=model), message)
    async for _ in result.stream_events():
        pass
    return result.final_output


@pytest.mark.parametrize("kind", [OpenAIResponsesModel, OpenAIChatCompletionsModel])
async def test_openais_agents_do_both_too(async_client, counts, kind):
    model = kind(model="gpt-5", openai_client=async_client)
    assert await run_agent(model, "Hello, you there") == "Hello, you there"
    with pytest.raises(openai.APIError, match=MESSAGE):
        await run_agent(model, CUT)
    assert counts["runs"] == 2


def test_the_error_event_has_openais_type_and_the_error_as_an_object_besides(client):
    *_, error, failed = raw_events(client, input=CUT)
    nested = error.pop("error")
    event = check(ResponseErrorEvent, error)
    assert (event.message, event.code, event.param) == (MESSAGE, "upstream_error", None)
    assert nested == {
        "type": "upstream_error", "code": event.code, "message": event.message, "param": None
    }
    assert failed["sequence_number"] == event.sequence_number + 1
    assert failed["type"] == "response.failed"

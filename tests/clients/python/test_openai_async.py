"""The `openai` package's asynchronous client."""

import asyncio

import openai
import pytest
from pydantic import BaseModel

from gateway import LONG_TEXT, sim, user


async def ask(client, content, **options):
    return await client.chat.completions.create(model="gpt-4o", messages=user(content), **options)


async def read(stream):
    text, reasons = "", []
    async for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    return text, reasons


async def test_models(async_client):
    assert "gpt-4o" in [model.id async for model in async_client.models.list()]
    assert (await async_client.models.retrieve("gpt-5")).id == "gpt-5"
    with pytest.raises(openai.NotFoundError):
        await async_client.models.retrieve("gpt-9")


async def test_a_whole_answer(async_client):
    answer = await ask(async_client, LONG_TEXT)
    assert answer.choices[0].message.content == LONG_TEXT


async def test_a_streamed_answer(async_client):
    stream = await ask(async_client, LONG_TEXT, stream=True)
    assert await read(stream) == (LONG_TEXT, ["stop"])


async def test_a_streamed_answer_with_usage(async_client):
    stream = await ask(async_client, "hi", stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0


async def test_the_stream_helper(async_client):
    async with async_client.chat.completions.stream(
        model="gpt-4o", messages=user("Hello there"), n=2
    ) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == ["Hello there"] * 2
    assert sum(event.type == "content.done" for event in events) == 2


class Colour(BaseModel):
    red: int
    green: int


async def test_a_structured_answer(async_client):
    answer = await async_client.chat.completions.parse(
        model="gpt-4o", messages=user(sim(say='{"red": 1, "green": 2}')), response_format=Colour
    )
    assert answer.choices[0].message.parsed == Colour(red=1, green=2)


async def test_many_streams_at_once_are_not_mixed_up(async_client):
    async def one(number):
        text = " ".join(f"{number}:{word}" for word in range(60))
        return await read(await ask(async_client, text, stream=True)) == (text, ["stop"])

    assert all(await asyncio.gather(*map(one, range(50))))


async def test_a_failure_within_a_stream_is_raised(async_client):
    stream = await ask(async_client, sim(fail=3, error="it broke"), stream=True)
    with pytest.raises(openai.APIError, match="it broke"):
        await read(stream)


async def test_leaving_a_stream_early_leaves_the_client_usable(async_client):
    async with await ask(async_client, sim(events=1000, delay=20), stream=True) as stream:
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    assert (await ask(async_client, "next")).choices[0].message.content == "next"


async def test_a_cancelled_request_leaves_the_client_usable(async_client):
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(ask(async_client, sim(first=5000)), 0.3)
    assert (await ask(async_client, "next")).choices[0].message.content == "next"


async def test_a_timeout_of_the_client(async_client):
    impatient = async_client.with_options(timeout=0.3, max_retries=0)
    with pytest.raises(openai.APITimeoutError):
        await ask(impatient, sim(first=5000))

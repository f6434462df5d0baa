"""pi over all three APIs: a small task with its tools, and how many runs a question costs that fails."""

import json

import pytest

from gateway import Counts, call, sim, turn

APIS = {"openai-completions": "/v1", "openai-responses": "/v1", "anthropic-messages": ""}


@pytest.fixture(params=APIS)
def pi(request, clients, place, gateway):
    return Pi(clients / "node/node_modules/.bin/pi", place, request.param, gateway.url)


class Pi:
    def __init__(self, program, place, api, url):
        self.program, self.place = program, place
        self.home = place.home / ".pi/agent"
        self.home.mkdir(parents=True)
        provider = {
            "baseUrl": url + APIS[api], "api": api, "apiKey": "none", "models": [{"id": "gpt-6-luna"}]
        }
        self.write("models.json", {"providers": {"langfast": provider}})

    def write(self, name, content):
        (self.home / name).write_text(json.dumps(content))

    def ask(self, question):
        always = ["--offline", "--no-session", "--mode", "json", "--print"]
        command = [self.program, "--provider", "langfast", "--model", "gpt-6-luna", *always, question]
        code, out, err = self.place.run(*command)
        assert out, err
        return code, [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def last(events):
    """The last answer, as pi keeps it."""
    answers = [event["message"] for event in events if event["type"] == "message_end"]
    return [answer for answer in answers if answer["role"] == "assistant"][-1]


def test_it_writes_a_file_and_runs_a_command(pi, simulator):
    simulator.turns(
        turn("I write it.", call("write", path="hello.txt", content='Hello "you" 🙂\n'), events=20),
        turn("", call("bash", command='cat hello.txt; echo "in $(basename $PWD)"')),
        turn("Done: hello.txt is there."),
    )
    code, events = pi.ask("Create hello.txt and show it.")
    assert code == 0, events[-3:]
    assert (pi.place.work / "hello.txt").read_text() == 'Hello "you" 🙂\n'
    assert last(events)["content"][-1]["text"] == "Done: hello.txt is there."
    told = simulator.told()
    assert any('Hello "you" 🙂\nin work' in text for text in told)


@pytest.mark.parametrize("failure", [{"error": "it broke"}, {"fail": 3, "error": "it broke"}])
def test_a_question_that_fails_is_an_error_and_costs_one_run(pi, simulator, failure):
    # It asks again by itself: 4 requests, of which all but the first are answered from memory.
    pi.write("settings.json", {"retry": {"baseDelayMs": 10}})
    counts = Counts(simulator)
    _, events = pi.ask(sim(**failure))
    answer = last(events)
    assert answer["stopReason"] == "error" and "it broke" in answer["errorMessage"], answer
    assert counts["runs"] == 1

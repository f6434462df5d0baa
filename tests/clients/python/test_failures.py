"""What the `openai` package does when LangFast fails: what it raises, and what it sends again.

A run costs LangFast's quota: the SDK's own retries may never start a second one.
"""

import re
import time

import openai
import pytest

from gateway import Counts, sim, user


def ask(client, content="hi", **options):
    return client.chat.completions.create(model="gpt-4o", messages=user(content), **options)


def client_of(gateway):
    return openai.OpenAI(base_url=gateway.api, api_key="any")


def read_until_error(stream):
    """The text and the finish reasons up to the error, and the error."""
    text, reasons = "", []
    with pytest.raises(openai.APIError) as caught:
        for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reasons += [choice.finish_reason] if choice.finish_reason else []
    return text, reasons, caught.value


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


class TestRefusedRequests:
    @pytest.mark.parametrize(
        ("field", "value", "param"),
        [
            ("temperature", 3, "temperature"),
            ("temperature", "hot", "temperature"),
            ("n", 9, "n"),
            ("stop", ["a"] * 5, "stop"),
            ("messages", [], "messages"),
            ("messages", [{"role": "nobody", "content": ""}], "messages[0].role"),
            ("messages", [{"role": "user", "content": 7}], "messages[0].content"),
            ("response_format", {"type": "xml"}, "response_format.type"),
            ("tools", [{"type": "function"}], "tools[0].function"),
        ],
    )
    @both
    def test_a_bad_request_names_the_field_and_is_not_sent_again(
        self, client, counts, field, value, param, stream
    ):
        body = {"model": "gpt-4o", "messages": user("hi"), "stream": stream} | {field: value}
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**body)
        assert caught.value.param == param
        assert caught.value.type == "invalid_request_error"
        assert counts["http_requests"] == 0

    def test_an_image_is_refused_by_its_place(self, client):
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        messages = [{"role": "user", "content": [{"type": "text", "text": "What?"}, image]}]
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="gpt-4o", messages=messages)
        assert caught.value.param == "messages[0].content[1]"

    def test_an_api_that_is_not_there_is_not_found(self, client):
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="gpt-4o", input="hi")


class TestKeys:
    @pytest.fixture
    def gateway_with_keys(self, start_gateway, tmp_path):
        keys = tmp_path / "keys"
        keys.write_text("sk-right\nsk-other\n")
        keys.chmod(0o600)
        return start_gateway("--api-keys-file", keys)

    @both
    def test_a_wrong_key_is_refused_and_not_tried_again(self, gateway_with_keys, counts, stream):
        with openai.OpenAI(base_url=gateway_with_keys.api, api_key="sk-wrong") as client:
            for request in (lambda: ask(client, stream=stream), client.models.list):
                with pytest.raises(openai.AuthenticationError) as caught:
                    request()
                assert caught.value.code == "invalid_api_key"
                assert "sk-wrong" not in caught.value.message
        assert counts["http_requests"] == 0
        assert gateway_with_keys.log().count("unauthorized") == 2

    @pytest.mark.parametrize("key", ["sk-right", "sk-other"])
    def test_a_right_key_is_accepted(self, gateway_with_keys, key):
        with openai.OpenAI(base_url=gateway_with_keys.api, api_key=key) as client:
            assert ask(client).choices[0].message.content == "hi"
            assert client.models.retrieve("gpt-4o").id == "gpt-4o"


class TestRetries:
    @both
    def test_a_rate_limit_is_waited_for_and_the_run_started_once(
        self, client, simulator, counts, stream
    ):
        body = {"message": "Too many requests"}
        simulator.fault("run", status=429, headers={"retry-after": "1"}, body=body)
        began = time.monotonic()
        answer = ask(client, stream=stream)
        assert 1 <= time.monotonic() - began < 2
        if stream:
            assert "".join(chunk.choices[0].delta.content or "" for chunk in answer) == "hi"
        assert (counts["http_requests"], counts["runs"]) == (2, 1)

    def test_a_rate_limit_that_stays_is_raised(self, client, simulator, counts):
        simulator.fault("run", status=429, headers={"retry-after": "1"}, times=3)
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client)
        assert caught.value.code == "rate_limit_exceeded"
        assert caught.value.response.headers["retry-after"] == "1"
        assert (counts["http_requests"], counts["runs"]) == (3, 0)

    def test_a_spent_quota_is_not_tried_again(self, client, simulator, counts):
        # It is remembered, for a model that no other test uses.
        body = {"message": "Daily limit reached for this model"}
        simulator.fault("run", status=429, body=body, times=3)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="o1", messages=user("hi"))
        assert caught.value.code == "insufficient_quota"
        assert "retry-after" not in caught.value.response.headers
        assert counts["http_requests"] == 1

    @both
    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_a_run_that_may_have_started_is_not_started_again(
        self, client, simulator, counts, status, stream
    ):
        simulator.fault("run", status=status, headers={"retry-after": "1"}, times=3)
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client, stream=stream)
        assert caught.value.status_code in (502, 503)
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert counts["http_requests"] == 1

    @both
    def test_nor_when_the_connection_breaks_before_the_answer(
        self, client, simulator, counts, stream
    ):
        simulator.fault("run", kind="reset", times=3)
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client, stream=stream)
        assert caught.value.status_code == 502
        assert counts["http_requests"] == 1

    @both
    def test_nor_when_the_run_fails_before_its_first_text(self, client, counts, stream):
        with pytest.raises(openai.InternalServerError, match="no luck") as caught:
            ask(client, sim(error="no luck"), stream=stream)
        assert caught.value.status_code == 502
        assert counts["runs"] == 1

    def test_nor_when_it_fails_later_and_the_answer_is_whole(self, client, counts):
        with pytest.raises(openai.InternalServerError, match="no luck"):
            ask(client, sim(fail=5, error="no luck"))
        assert counts["runs"] == 1

    @both
    def test_nor_when_langfast_does_not_answer_in_time(
        self, start_gateway, simulator, stream
    ):
        simulator.fault("run", kind="hang", times=3)
        with client_of(start_gateway("--request-timeout", "1")) as client:
            client.models.list()
            with pytest.raises(openai.InternalServerError) as caught:
                ask(client, stream=stream)
            assert caught.value.status_code == 504
            assert "LANGFAST2API_REQUEST_TIMEOUT" in caught.value.message
            # Two of the three are still waiting: the next two runs meet them.
            with pytest.raises(openai.InternalServerError):
                ask(client)
            with pytest.raises(openai.InternalServerError):
                ask(client)
            assert ask(client).choices[0].message.content == "hi"

    @both
    def test_nor_when_the_first_event_does_not_come_in_time(self, start_gateway, simulator, stream):
        with client_of(start_gateway("--first-event-timeout", "0.5")) as client:
            counts = Counts(simulator)
            with pytest.raises(openai.InternalServerError) as caught:
                ask(client, sim(first=5000), stream=stream)
            assert caught.value.status_code == 504
            assert "LANGFAST2API_FIRST_EVENT_TIMEOUT" in caught.value.message
            assert counts["runs"] == 1

    @pytest.mark.parametrize("step", ["sign_up", "create_prompt", "connect"])
    @both
    def test_a_failure_before_the_run_is_got_over(self, start_gateway, simulator, step, stream):
        simulator.fault(step, status=503, times=2)
        with client_of(start_gateway()) as client:
            counts = Counts(simulator)
            answer = ask(client, stream=stream)
            text = (
                "".join(chunk.choices[0].delta.content or "" for chunk in answer)
                if stream
                else answer.choices[0].message.content
            )
            assert (text, counts["runs"]) == ("hi", 1)

    @pytest.mark.parametrize("step", ["sign_up", "create_prompt", "connect"])
    @both
    def test_a_failure_before_the_run_that_stays_is_raised(
        self, start_gateway, simulator, step, stream
    ):
        simulator.fault(step, status=500, times=50)
        with client_of(start_gateway()) as client:
            counts = Counts(simulator)
            with pytest.raises(openai.InternalServerError) as caught:
                ask(client, stream=stream)
            assert caught.value.status_code in (502, 503)
            assert counts["runs"] == 0

    def test_a_context_that_is_too_long_is_a_bad_request(self, client, counts):
        message = "This model's maximum context length is 128000 tokens."
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, sim(error=message))
        assert caught.value.code == "context_length_exceeded"
        assert counts["runs"] == 1

    def test_an_expired_token_is_renewed_unseen(self, start_gateway, simulator):
        with client_of(start_gateway()) as client:
            ask(client)
            simulator._post("expire")
            assert ask(client).choices[0].message.content == "hi"


class TestFailuresWithinAStream:
    def test_the_error_is_raised_and_no_end_pretended(self, client, counts):
        stream = ask(client, sim(events=10, fail=4, error="it broke"), stream=True)
        text, reasons, error = read_until_error(stream)
        assert (text, reasons) == ("1 2 3 4 ", [])
        assert "it broke" in error.message
        assert error.type == "upstream_error"
        assert counts["runs"] == 1

    def test_the_stream_helper_raises_it_too(self, client):
        seen = []
        with pytest.raises(openai.APIError, match="it broke"):
            with client.chat.completions.stream(
                model="gpt-4o", messages=user(sim(fail=4, error="it broke"))
            ) as stream:
                for event in stream:
                    seen.append(event.type)
        assert "content.delta" in seen and "content.done" not in seen

    def test_one_choice_of_two_that_fails_fails_the_answer(self, client, simulator):
        # The simulator cannot fail one run of two by their message: both fail, which is enough.
        stream = ask(client, sim(fail=4, error="it broke"), n=2, stream=True)
        _, reasons, error = read_until_error(stream)
        assert (reasons, "it broke" in error.message) == ([], True)

    def test_a_socket_that_breaks_is_unseen_when_the_run_goes_on(self, client, counts):
        message = sim(events=20, delay=30, cut=5)
        chunks = list(ask(client, message, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == "".join(f"{number} " for number in range(1, 21))
        assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
        assert counts["runs"] == 1

    @both
    def test_an_end_that_was_missed_while_the_socket_was_broken_is_an_error(
        self, start_gateway, simulator, stream
    ):
        with client_of(start_gateway("--silence-timeout", "1")) as client:
            ask(client)
            counts = Counts(simulator)
            message = sim(events=6, delay=0, cut=5)
            if stream:
                text, reasons, error = read_until_error(ask(client, message, stream=True))
                assert (text, reasons) == ("1 2 3 4 5 ", [])
            else:
                with pytest.raises(openai.InternalServerError) as caught:
                    ask(client, message)
                error = caught.value
                assert error.status_code == 504
            assert error.code == "timeout"
            assert counts["runs"] == 1
            assert ask(client).choices[0].message.content == "hi"

    def test_a_run_that_falls_silent_is_an_error_that_names_the_setting(self, start_gateway):
        with client_of(start_gateway("--silence-timeout", "0.5")) as client:
            stream = ask(client, sim(events=5, lost="last"), stream=True)
            text, reasons, error = read_until_error(stream)
        assert (text, reasons) == ("1 2 3 4 ", [])
        assert "LANGFAST2API_SILENCE_TIMEOUT" in error.message

    def test_a_program_that_is_killed_is_an_error(self, start_gateway):
        gateway = start_gateway()
        with client_of(gateway) as client:
            stream = iter(ask(client, sim(events=1000, delay=20), stream=True))
            for _ in range(3):
                next(stream)
            gateway.process.kill()
            _, reasons, error = read_until_error(stream)
        assert reasons == []
        assert isinstance(error, openai.APIConnectionError)


class TestSilence:
    def test_comments_in_silence_are_no_trouble(self, start_gateway):
        with client_of(start_gateway("--keep-alive", "0.2")) as client:
            message = sim(events=4, silence=1500)
            with client.chat.completions.with_streaming_response.create(
                model="gpt-4o", messages=user(message), stream=True
            ) as response:
                lines = list(response.iter_lines())
            assert sum(line.startswith(":") for line in lines) >= 4
            assert not any(first == second == "" for first, second in zip(lines, lines[1:]))

            chunks = list(ask(client, message, stream=True))
            assert "".join(c.choices[0].delta.content or "" for c in chunks) == "1 2 3 4 "
            with client.chat.completions.stream(model="gpt-4o", messages=user(message)) as stream:
                final = stream.get_final_completion()
            assert final.choices[0].message.content == "1 2 3 4 "

    def test_a_client_s_patience_is_for_each_read_so_that_comments_keep_it_waiting(
        self, start_gateway
    ):
        with client_of(start_gateway("--keep-alive", "0.2")) as client:
            patient = client.with_options(timeout=1, max_retries=0)
            chunks = list(ask(patient, sim(events=4, silence=2500), stream=True))
        assert chunks[-1].choices[0].finish_reason == "stop"

    def test_a_model_that_thinks_for_long_gets_its_status_line_and_comments(self, start_gateway):
        with client_of(start_gateway("--keep-alive", "0.5")) as client:
            began = time.monotonic()
            stream = ask(client, sim(events=2, first=12_000), stream=True)
            assert 9 < time.monotonic() - began < 11
            assert "".join(c.choices[0].delta.content or "" for c in stream) == "1 2 "

    def test_a_timeout_of_the_client_is_raised_and_the_next_request_is_answered(self, client):
        impatient = client.with_options(timeout=0.3, max_retries=0)
        with pytest.raises(openai.APITimeoutError):
            ask(impatient, sim(first=5000))
        stream = ask(impatient, sim(events=2, silence=5000), stream=True)
        with pytest.raises(openai.APIConnectionError):
            list(stream)
        assert ask(client).choices[0].message.content == "hi"

    def test_a_stream_that_is_left_is_closed(self, client, gateway):
        with ask(client, sim(events=1000, delay=20), stream=True) as stream:
            request_id = stream.response.headers["x-request-id"]
            for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
        assert ask(client).choices[0].message.content == "hi"
        deadline = time.monotonic() + 10
        while not re.search(f"error=client_gone .*id={request_id}$", gateway.log(), re.MULTILINE):
            assert time.monotonic() < deadline
            time.sleep(0.05)

"""A server on loopback: probabilities where it gives them, plain errors where it does not."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from freehold.errors import EngineError, PermitDenied
from freehold.policy.permits import EngineZone, Permit, Policy, authorize
from freehold.runtimes.base import OptionText, Question, Scorer
from freehold.runtimes.open import RuntimeSpec, open_scorer
from freehold.runtimes.secret import Secret

Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Server:
    """A stand-in for an engine: `answer` maps a request's body to a reply; `seen` keeps all."""

    url: str = ""
    answer: Callable[[dict[str, Any]], Reply] = lambda body: (500, {}, b"")
    seen: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    stand_in = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stand_in.seen.append(({k.lower(): v for k, v in self.headers.items()}, body))
            status, headers, data = stand_in.answer(body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            """Keep the test's output clean."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield stand_in
    http.shutdown()
    http.server_close()
    thread.join()


def completion(content: str, top: dict[str, float] | None = None) -> Reply:
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": content}}
    if top is not None:
        listed = [{"token": token, "logprob": math.log(share)} for token, share in top.items()]
        choice["logprobs"] = {"content": [{"token": content, "top_logprobs": listed}]}
    body = {"choices": [choice], "usage": {"prompt_tokens": 12}}
    return 200, {}, json.dumps(body).encode()


def permit(url: str, sensitivity: str = "internal") -> Permit:
    host = url.split("/")[2]
    return authorize(sensitivity, EngineZone(host, "local"), Policy())


def opened(server: Server, question: Question, **options: str) -> Scorer:
    spec = RuntimeSpec(
        "openai_http",
        options={"url": server.url, "model": "m", "parallel": "1", **options},
        key=Secret("sk-test"),
        permit=permit(server.url),
    )
    return open_scorer(spec, question)


def test_letter_probabilities_are_renormalised(server: Server, choice: Question):
    """'A' and ' A' are one answer; what is no option's letter is left out."""
    server.answer = lambda body: completion("B", {"B": 0.5, "A": 0.2, " A": 0.1, "Z": 0.1})
    scored = opened(server, choice).score(["where is my money"])[0]
    assert scored.probabilities == pytest.approx((0.375, 0.625, 0.0))
    assert (scored.raw, scored.tokens_in, scored.calibrated) == ("B", 12, False)
    headers, body = server.seen[0]
    assert headers["authorization"] == "Bearer sk-test"
    assert body["messages"][1] == {"role": "user", "content": "where is my money"}
    assert "A) card_lost: card lost" in body["messages"][0]["content"]
    assert (body["temperature"], body["logprobs"], body["top_logprobs"]) == (0, True, 20)


@pytest.mark.parametrize(
    ("content", "expected"),
    [("B", (0, 1, 0)), ("c.", (0, 0, 1)), ("Card_Lost", (1, 0, 0)), ("refund\n", (0, 1, 0))],
)
def test_without_logprobs_the_stated_option_is_taken_and_not_called_calibrated(
    server: Server, choice: Question, content, expected
):
    server.answer = lambda body: completion(content)
    scored = opened(server, choice).score(["x"])[0]
    assert (scored.probabilities, scored.raw, scored.calibrated) == (expected, content, False)


def test_labels_and_numbers_are_parsed(server: Server, labels: Question, number: Question):
    server.answer = lambda body: completion("parcel | card")
    assert opened(server, labels).score(["x"])[0].probabilities == (1, 0, 1)
    server.answer = lambda body: completion("none")
    assert opened(server, labels).score(["x"])[0].probabilities == (0, 0, 0)
    server.answer = lambda body: completion("7.5")
    scored = opened(server, number).score(["x"])[0]
    assert (scored.probabilities, scored.value) == ((0, 0, 0, 1, 0), 7.5)


def test_more_options_than_letters_are_answered_by_name(server: Server):
    question = Question("choice", tuple(OptionText(f"option_{n}") for n in range(40)))
    server.answer = lambda body: completion("option_33")
    scored = opened(server, question).score(["x"])[0]
    assert scored.probabilities[33] == 1
    assert "logprobs" not in server.seen[0][1]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (completion("I cannot say"), "'I cannot say' is not among the options"),
        ((500, {}, b""), "answered HTTP 500"),
        ((302, {"Location": "http://elsewhere.invalid/"}, b""), "answered HTTP 302"),
        ((200, {}, b"<html>"), "something that is not JSON"),
        ((200, {}, b"[1]"), "JSON that is not an object"),
        ((200, {}, b'{"choices": []}'), "not a chat completion"),
        ((200, {}, b'{"choices": [{"message": {"content": null}}]}'), "content is not text"),
        ((200, {}, b'"' + b"x" * 9_000_000 + b'"'), "more than 8388608 bytes"),
        ((429, {"Retry-After": "0"}, b""), "answered HTTP 429"),
    ],
)
def test_one_bad_answer_is_that_text_s_error(server: Server, choice: Question, reply, error):
    """The others are answered; no redirect is followed, and nothing is sent twice."""
    good = completion("A")
    server.answer = lambda body: reply if body["messages"][1]["content"] == "bad" else good
    first, bad, last = opened(server, choice, retries="0").score(["x", "bad", "y"])
    assert error in (bad.error or "")
    assert (bad.probabilities, first.error, last.error) == ((), None, None)
    assert len(server.seen) == 3


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_path_stops_everything(server: Server, choice: Question, status: int):
    server.answer = lambda body: (status, {}, b"")
    with pytest.raises(EngineError, match=f"answered HTTP {status}") as caught:
        opened(server, choice).score(["x"])
    assert "sk-test" not in str(caught.value.as_json())


def test_too_many_requests_are_retried_after_the_stated_wait(server: Server, choice: Question):
    replies = [(429, {"Retry-After": "1"}, b""), completion("A")]
    server.answer = lambda body: replies.pop(0)
    start = time.monotonic()
    assert opened(server, choice).score(["x"])[0].error is None
    assert time.monotonic() - start >= 1


def test_a_timeout_while_reading_is_not_sent_again(server: Server, choice: Question):
    """It may have been computed and paid for."""
    released = threading.Event()

    def slow(body: dict[str, Any]) -> Reply:
        released.wait(1.3)
        return completion("A")

    server.answer = slow
    scored = opened(server, choice, timeout_s="1").score(["x"])[0]
    released.set()
    assert "broke off after the request: TimeoutError" in (scored.error or "")
    assert len(server.seen) == 1


def test_no_connection_is_an_error_that_names_the_server(choice: Question):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    options = {"url": url, "model": "m", "retries": "1"}
    spec = RuntimeSpec("openai_http", options=options, permit=permit(url))
    with pytest.raises(EngineError, match=r"cannot connect to http://127\.0\.0\.1"):
        open_scorer(spec, choice).score(["x"])


def test_no_permit_or_another_host_s_permit_is_refused(server: Server, choice: Question):
    options = {"url": server.url, "model": "m"}
    for given, message in [
        (None, "needs a permit from policy"),
        (permit("http://other.example:80/v1"), "the permit is for other.example:80, not for"),
    ]:
        with pytest.raises(PermitDenied, match=message):
            open_scorer(RuntimeSpec("openai_http", options=options, permit=given), choice)
    assert server.seen == []


def test_it_says_that_the_identity_is_the_provider_s_claim(server: Server, choice: Question):
    described = opened(server, choice).describe()
    assert described["identity_basis"] == "provider_claimed"
    assert "sk-test" not in str(described)

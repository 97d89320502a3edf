"""One JSON request to an engine over HTTP, with the caution that other people's servers need.

Standard library only. Connects to the named host and nowhere else: no proxy from the environment
and no redirect is followed, since either would carry the data to a host that no permit names.
Retries only what cannot have been computed: a connection that never opened, and 429.
"""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from freehold.errors import EngineError, InputError
from freehold.runtimes.secret import Secret

_MOST_BYTES = 8 * 1024 * 1024
_LONGEST_WAIT = 60.0
_WRONG_FOR_ALL = {401, 403, 404}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible server: `url` ends before ``/chat/completions``, as in ``…/v1``."""

    url: str
    key: Secret | None = None
    timeout_s: int = 60
    retries: int = 2

    def __post_init__(self) -> None:
        """Refuse limits under which nothing would ever be answered."""
        if self.timeout_s < 1 or self.retries < 0:
            raise InputError("timeout_s must be 1 or more and retries 0 or more")


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why one request got no usable answer; others may still get one."""

    reason: str


def post_json(endpoint: Endpoint, path: str, body: dict[str, Any]) -> dict[str, Any] | NoAnswer:
    """Return the JSON object that the server answers, or why this one request got none.

    Raises EngineError where every other request would fail too: no connection, wrong key or path.
    """
    payload = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8")
    attempt = 0
    while True:
        last = attempt == endpoint.retries
        connection = _connect(endpoint, attempt)
        if connection is not None:
            try:
                response = _exchange(connection, endpoint, path, payload)
            finally:
                connection.close()
            if isinstance(response, NoAnswer):
                return response
            if response.status != 429 or last:
                return _checked(f"{endpoint.url}{path}", response)
            time.sleep(_stated_wait(response.retry_after, attempt))
        attempt += 1


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    retry_after: str | None
    data: bytes


def _connect(endpoint: Endpoint, attempt: int) -> http.client.HTTPConnection | None:
    """Return an open connection; None, after a wait, when another attempt is left."""
    parts = urlsplit(endpoint.url)
    secure = parts.scheme == "https"
    form = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = form(parts.hostname or "", parts.port, timeout=endpoint.timeout_s)
    try:
        connection.connect()
    except OSError as error:
        connection.close()
        if attempt == endpoint.retries:
            raise EngineError(f"cannot connect to {endpoint.url}: {error}") from error
        time.sleep(_stated_wait(None, attempt))
        return None
    return connection


def _exchange(
    connection: http.client.HTTPConnection, endpoint: Endpoint, path: str, payload: bytes
) -> _Response | NoAnswer:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if endpoint.key is not None:
        headers["Authorization"] = f"Bearer {endpoint.key.reveal()}"
    target = urlsplit(endpoint.url).path.rstrip("/") + path
    try:
        connection.request("POST", target, body=payload, headers=headers)
        response = connection.getresponse()
        data = response.read(_MOST_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        return NoAnswer(f"{endpoint.url} broke off after the request: {type(error).__name__}")
    return _Response(response.status, response.getheader("Retry-After"), data)


def _checked(where: str, response: _Response) -> dict[str, Any] | NoAnswer:
    if response.status in _WRONG_FOR_ALL:
        raise EngineError(
            f"{where} answered HTTP {response.status}", hint="Check the URL and the key."
        )
    if response.status != 200:
        return NoAnswer(f"{where} answered HTTP {response.status}")
    if len(response.data) > _MOST_BYTES:
        return NoAnswer(f"{where} answered more than {_MOST_BYTES} bytes")
    try:
        answer = json.loads(response.data)
    except ValueError as error:
        return NoAnswer(f"{where} answered something that is not JSON: {error}")
    if not isinstance(answer, dict):
        return NoAnswer(f"{where} answered JSON that is not an object")
    return answer


def _stated_wait(stated: str | None, attempt: int) -> float:
    """Return the seconds that Retry-After asks for, at most a minute; else a doubling wait."""
    asked = float(stated) if stated is not None and stated.strip().isdigit() else 0.2 * 2.0**attempt
    return min(_LONGEST_WAIT, asked)

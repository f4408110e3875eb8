"""A small client of the public HTTP API.

Requests that were refused for now (429, 503, 504) are sent again after Retry-After, for up to a
minute in all, and those whose answer got lost; submissions carry an idempotency key, so that this
never makes a second task.
"""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from octarm.cli.profiles import Target
from octarm.models.errors import (
    InvalidRequest,
    NotFound,
    OctarmError,
    Problem,
    TimedOut,
    Unauthenticated,
    Unavailable,
    from_problem,
)

MAX_TRIES: Final = 5
# Whoever is to wait for longer is told so at once.
MOST_WAIT_S: Final = 60.0
TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}
_RETRIED: Final = {429, 503, 504}
_LOST: Final = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


Waiting = Callable[[OctarmError, float], None]


class Gateway:
    """One gateway over HTTP; close it, or use it as a context manager."""

    def __init__(
        self,
        target: Target,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        waiting: Waiting = lambda error, pause_s: None,
    ) -> None:
        """Take the address; nothing is sent yet.

        `waiting` is told of each pause, in seconds, before a request is sent again, and why.

        Raises:
            InvalidRequest: the URL is not one of HTTP.
        """
        parts = urlsplit(target.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidRequest(
                f"{target.url!r} (from {target.source}) is not an http or https URL",
                "Write it like http://127.0.0.1:8080.",
            )
        self._target = target
        self._sleep, self._waiting = sleep, waiting
        headers = {"authorization": f"Bearer {target.api_key}"} if target.api_key else {}
        self.client = httpx.Client(
            base_url=target.url,
            headers=headers,
            timeout=TIMEOUT,
            transport=transport,
            trust_env=parts.hostname not in _LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def get(self, path: str, **params: Any) -> Any:
        """GET a JSON document; parameters that are None or empty are left out."""
        given = {key: value for key, value in params.items() if value not in (None, "", [])}
        return self._call("GET", path, params=given)

    def post(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """POST a JSON document and return the one that is answered."""
        return self._call("POST", path, json=body if body is not None else {}, headers=headers)

    def post_once(self, path: str, body: Any = None, *, timeout_s: float = 30.0) -> Any:
        """POST what must not be sent again, or takes long; waits `timeout_s` for the answer."""
        how = {"json": body if body is not None else {}, "timeout": httpx.Timeout(timeout_s)}
        return self._call("POST", path, tries=1, **how)

    def put(self, path: str, body: Any) -> Any:
        """PUT a JSON document; again is the same."""
        return self._call("PUT", path, json=body)

    def delete(self, path: str) -> Any:
        """DELETE; again is the same."""
        return self._call("DELETE", path)

    def _call(self, method: str, path: str, *, tries: int = MAX_TRIES, **how: Any) -> Any:
        left_s = MOST_WAIT_S
        for attempt in range(1, tries + 1):
            try:
                response = self.client.request(method, path, **how)
            except _LOST as error:
                # What is sent so may be sent again: submissions carry a key.
                if attempt == tries:
                    raise self.unreachable(error) from None
                self._sleep(_growing_s(attempt))
                continue
            except httpx.HTTPError as error:
                raise self.unreachable(error) from None
            if response.is_success:
                return _json(response)
            pause_s = _pause_s(response, attempt)
            left_s -= pause_s
            if response.status_code not in _RETRIED or attempt == tries or left_s < 0:
                break
            self._waiting(error_of(response), pause_s)
            self._sleep(pause_s)
        raise error_of(response)

    def unreachable(self, error: httpx.HTTPError) -> OctarmError:
        """Say in one line why no answer came."""
        where = f"{self._target.url} (from {self._target.source})"
        if isinstance(error, httpx.TimeoutException) and not isinstance(
            error, httpx.ConnectTimeout
        ):
            return TimedOut(f"the gateway at {where} did not answer in time")
        return Unavailable(
            f"no gateway answers at {where}: {error}",
            "Start one with 'octarm up', or correct --url, OCTARM_URL or the profile.",
        )


def error_of(response: httpx.Response) -> OctarmError:
    """The error that a response stands for, whoever wrote its body."""
    try:
        return from_problem(Problem.model_validate_json(response.content))
    except ValidationError:
        pass
    status, reason = response.status_code, response.reason_phrase
    detail = f"the server answered {status} {reason} without a problem document"
    if status in {401, 403}:
        return Unauthenticated(detail)
    if status == 404:
        return NotFound(detail, "Is this the URL of an Octarm gateway?", "NOT_FOUND")
    if status in {502, 503, 504}:
        return Unavailable(detail)
    if 400 <= status < 500:
        return InvalidRequest(detail)
    return OctarmError(detail, "Is this the URL of an Octarm gateway?")


def _json(response: httpx.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError:
        raise OctarmError(
            "the server's answer is not JSON", "Is this the URL of an Octarm gateway?"
        ) from None


def _pause_s(response: httpx.Response, attempt: int) -> float:
    try:
        wanted = float(response.headers.get("retry-after", ""))
    except ValueError:
        wanted = _growing_s(attempt)
    return max(wanted, 0.05)


def _growing_s(attempt: int) -> float:
    return 0.25 * float(2**attempt)

"""A server of the OpenAI protocol: address, key, retries and error messages.

The key comes from the environment variable OPENAI_API_KEY alone, and is removed from whatever a server returns.
"""

import base64
import email.utils
import json
import logging
import math
import os
import random
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from thinking.errors import UserError, to_line
from thinking.text import response_cache
from thinking.text.addresses import split_address
from thinking.text.http_client import make_client, run_request

KEY_VARIABLE = "OPENAI_API_KEY"
OPENAI_URL = "https://api.openai.com/v1"
MAX_ANSWER_BYTES = 2**25  # a batch of the longest embeddings is a fifth of it
MAX_WAIT = 120.0  # seconds; if a server asks for more, the run ends
_MAX_BACKOFF = 60.0  # seconds
_MIN_SECRET_LENGTH = 8  # characters; keys of local servers, as `none`, may be words of texts
_RETRY_STATUSES = (408, 409, 429)  # and all from 500

Result = TypeVar("Result")


class Server:
    """A server, its retry policy, and the folder of its cached answers. Threads may share it.

    `with Server(...) as server` closes its connections at the end.

    Args:
        base_url: such as http://localhost:8000/v1; None: OPENAI_BASE_URL, or OpenAI's own. `user:password@` in it is
            sent as basic authentication, a query with every request; neither appears in a message or file.
        folder: of cached answers.
        timeout: seconds until the whole answer must have arrived.
        max_retries: retries after 429, 5xx, a lost connection or a timeout.
        backoff: seconds before the first retry, doubled each time, unless the server says how long to wait.
        max_requests: maximum number of HTTP requests, including retries; None: no limit.

    Attributes:
        url: the address without credentials.
        folder: of cached answers.
        num_requests: HTTP requests sent so far.

    Raises:
        ValueError: for an invalid base URL, none and no key, or an invalid number.
        UserError: for an invalid key.
    """

    def __init__(
        self,
        base_url: str | None,
        folder: Path,
        *,
        timeout: float = 120.0,
        max_retries: int = 5,
        backoff: float = 0.5,
        max_requests: int | None = None,
    ) -> None:
        import openai

        if not 0 < timeout < math.inf or max_retries < 0 or not 0 <= backoff < math.inf or (max_requests or 0) < 0:
            raise ValueError(
                f"timeout {timeout}, max_retries {max_retries}, backoff {backoff}, max_requests {max_requests}: "
                "allowed are seconds above 0, and counts from 0"
            )
        address, login, query = split_address(base_url or os.environ.get("OPENAI_BASE_URL") or None)
        self._key, self._login = _key(address), login
        token = base64.b64encode(":".join(login).encode()).decode() if login else ""
        # A user without a password is a token.
        secrets = (self._key, token, *(login if login and not login[1] else login[1:]), *query.values())
        self._secrets = tuple(secret for secret in secrets if len(secret) >= _MIN_SECRET_LENGTH)
        self._retries, self._backoff, self._timeout, self._limit = max_retries, backoff, timeout, max_requests
        self.folder, self.num_requests = folder, 0
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs whole addresses, which may hold a secret
        # The address is explicit, because the package would use an empty OPENAI_BASE_URL. This class retries itself,
        # because the package waits at least half a second.
        self.client = openai.AsyncOpenAI(
            api_key=self._key or "no-key-is-needed",
            base_url=address or OPENAI_URL,
            default_query=query,
            timeout=None,
            max_retries=0,
            http_client=make_client(auth=login, max_bytes=MAX_ANSWER_BYTES, on_request=self._count),
        )
        self.url = urllib.parse.urlunsplit((*urllib.parse.urlsplit(str(self.client.base_url))[:3], "", "")).rstrip("/")

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exception: object) -> None:
        run_request(self.client.close, self._timeout)

    def request_answer(self, model: str, send: Callable[[], Awaitable[Any]], read: Callable[[Any], Result]) -> Result:
        """Send one request, with retries, and return its answer.

        Args:
            model: for messages.
            send: sends the request and returns the raw response; runs in the thread of the requests.
            read: extracts the answer from the JSON response; raises ValueError if there is none.

        Raises:
            UserError: there is no valid answer, or `max_requests` is reached.
        """
        # Errors are raised outside of the `except`, so that neither request nor response is in their context.
        try:
            response, failure = self._response(model, send), ""
        except UserError:
            raise
        except Exception as error:  # whatever else a server brings about is a line, as a traceback may show the key
            response, failure = None, self._quote(f"{type(error).__name__}: {error}")
        if failure:
            raise UserError(f"{self.url} sent what cannot be understood ({failure}); check the address")
        try:
            return read(json.loads(response.http_response.content))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            reason = "it is not JSON"
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            reason = str(error) if isinstance(error, ValueError) else "it is not of the OpenAI protocol"
        start = self._quote(response.http_response.text)
        raise UserError(f"{self.url} sent an invalid response ({reason}): {start}; check the address and the model")

    def redact(self, text: str) -> str:
        """The text without secrets and lone surrogates."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text.encode("utf-8", "replace").decode()

    async def _count(self, request: Any) -> None:
        if self._limit is not None and self.num_requests >= self._limit:
            raise _RequestLimitReached(self._limit, self.folder)
        self.num_requests += 1

    def _response(self, model: str, send: Callable[[], Awaitable[Any]]) -> Any:
        import openai

        for attempt in range(1, self._retries + 2):
            requested_wait = None
            try:
                return run_request(send, self._timeout)
            except openai.APIStatusError as error:
                status, message = error.status_code, self._quote(_message(error))
                requested_wait = _retry_after(error.response.headers)
                is_retryable = (status in _RETRY_STATUSES or status >= 500) and error.code != "insufficient_quota"
            except (openai.APITimeoutError, TimeoutError):
                status, message, is_retryable = 0, f"no answer within {self._timeout:g} s", True
            except openai.APIConnectionError as error:
                status, message = 0, self._quote(str(error.__cause__ or error))
                is_retryable = not isinstance(
                    error.__cause__, httpx2.ConnectError
                )  # no server is running: retries are useless
            backoff = min(_MAX_BACKOFF, self._backoff * 2.0 ** min(attempt - 1, 100)) * random.uniform(0.75, 1)
            wait = backoff if requested_wait is None else requested_wait
            if not is_retryable or attempt > self._retries or wait > MAX_WAIT:
                break
            time.sleep(wait)
        raise UserError(self._explain(model, status, message, attempt, requested_wait))

    def _explain(self, model: str, status: int, message: str, num_attempts: int, requested_wait: float | None) -> str:
        if status == 401:
            if self._login:
                return f"{self.url} refuses the user and password of its address (401); give those that it knows"
            refused = (
                f"refuses the key in {KEY_VARIABLE}" if self._key else f"wants a key, and {KEY_VARIABLE} is not set"
            )
            return f"{self.url} {refused} (401); put a key of this server there, or into secrets.env"
        if status == 404:
            return f"{self.url} has no model `{model}`, or is no such address (404: {message}){self._models()}"
        times = f" after {num_attempts} attempts" if num_attempts > 1 else ""
        count = response_cache.count_answers(self.folder)
        cached = f"{count} answers are kept in {self.folder}; the same command goes on from there"
        if status == 0:
            silent = "gives no answer" if times else "cannot be reached"
            return f"{self.url} {silent}{times} ({message}); check the address and that the server runs; {cached}"
        if requested_wait is not None and requested_wait > MAX_WAIT:
            times += (
                f", and asks to wait {requested_wait:.0f} s" if requested_wait < 1e9 else ", and asks to wait for years"
            )
        hint = (
            "wait, or ask another server"
            if status in _RETRY_STATUSES or status >= 500
            else "check the model and settings"
        )
        return f"{self.url} answers {status}{times} ({message}); {hint}; {cached}"

    def _models(self) -> str:
        """The models of the server, as the end of a message."""
        import openai

        try:
            listed = run_request(self.client.models.with_raw_response.list, self._timeout)
            response = json.loads(listed.http_response.content)
            names = [self._quote(str(model["id"])) for model in response["data"]]
        except (openai.OpenAIError, UserError, TimeoutError, ValueError, KeyError, TypeError):
            return "; check the model and the address, which mostly ends with /v1"
        more = ", ..." if len(names) > 12 else ""
        return f"; it has {', '.join(names[:12])}{more}"

    def _quote(self, text: str) -> str:
        """One line of a server's text, for a message."""
        return to_line(self.redact(text))[:200] or "nothing"


class _RequestLimitReached(UserError):
    """The request limit. Answers in progress still arrive, so they are counted when the message is read."""

    def __init__(self, limit: int, folder: Path) -> None:
        super().__init__(limit, folder)
        self._limit, self._folder = limit, folder

    def __str__(self) -> str:
        return (
            f"max_requests {self._limit}: that many are sent; {response_cache.count_answers(self._folder)} answers are "
            f"kept in {self._folder}; the same command goes on from there with as many again, or with a larger limit"
        )


def _key(address: str | None) -> str:
    """The key, or an empty string for a named server without one."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key and address is None:
        raise ValueError(
            f"base_url None: {KEY_VARIABLE} is not set, and no server is named; set it in the environment or in "
            "secrets.env, or name a server of your own, such as http://localhost:8000/v1"
        )
    if not all("!" <= character <= "~" and character not in "\"'\\" for character in key):
        raise UserError(
            f"{KEY_VARIABLE} holds a character that no key has; allowed are letters, digits and marks of ASCII"
        )
    return key


def _message(error: Any) -> str:
    """The server's error message, or the start of its response."""
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return message if isinstance(message, str) else str(error.response.text)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, from a number or a date; None if it asks for none that makes sense."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        header = headers.get(name, "")
        try:
            seconds = unit * float(header)
        except ValueError:
            seconds = _seconds_until(header)
        if 0 <= seconds < math.inf:
            return seconds
    return None


def _seconds_until(date: str) -> float:
    """Seconds until a date of an HTTP header, 0 if it is past; nan if it is none."""
    try:
        return max(0.0, email.utils.parsedate_to_datetime(date).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return math.nan

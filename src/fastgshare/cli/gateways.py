"""Gateways, seen from the command line: OpenFaaS's API over HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from fastgshare.domain.errors import FastGShareError, InvalidValue, NotFound

_TIMEOUT_S: Final = 30.0
_QUOTED_CHARACTERS: Final = 300


class GatewayUnavailable(FastGShareError):
    """No gateway answers at the URL."""


class GatewayFailed(FastGShareError):
    """The gateway answered with an error; the text is its own."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class AskedWrongly(InvalidValue):
    """The gateway refused what was asked of it; the text is its own."""

    def __init__(self, text: str) -> None:
        FastGShareError.__init__(self, text)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response. headers: by their names in lower case; of several with one name the last."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What it says, on one line, cut if it is long."""
        said = " ".join(self.body.decode("utf-8", "replace").split())
        return said[:_QUOTED_CHARACTERS] + ("..." if len(said) > _QUOTED_CHARACTERS else "")


class Gateway:
    """The gateway at a URL. Raises `InvalidValue` if it is not an http or https URL.

    Its methods raise `GatewayUnavailable` if nobody answers, `NotFound` for an unknown function, `AskedWrongly` for
    what the gateway refuses (400) and `GatewayFailed` for any other error.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url if "//" in url else f"http://{url}")
            self._port = parts.port
        except ValueError:
            raise InvalidValue("gateway", url, "a URL such as http://127.0.0.1:8080") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidValue("gateway", url, "a URL such as http://127.0.0.1:8080")
        self._scheme, self._host, self._path = parts.scheme, parts.hostname, parts.path.rstrip("/")
        self._credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{self._path}"

    def functions(self) -> list[dict[str, Any]]:
        """The statuses of all functions."""
        return _list(self._system("GET", "/system/functions"))

    def function(self, name: str) -> dict[str, Any]:
        """The status of a function."""
        return _object(self._system("GET", f"/system/function/{quote(name, safe='')}", name=name))

    def deploy(self, deployment: Mapping[str, object]) -> None:
        """Create a function, or replace the one of that name."""
        body = _json(deployment)
        try:
            self._system("PUT", "/system/functions", body, name=str(deployment["service"]))
        except NotFound:
            self._system("POST", "/system/functions", body)

    def scale(self, name: str, replicas: int) -> None:
        """Want so many replicas of a function."""
        body = _json({"serviceName": name, "replicas": replicas})
        self._system("POST", f"/system/scale-function/{quote(name, safe='')}", body, name=name)

    def remove(self, name: str) -> None:
        """Forget a function."""
        self._system("DELETE", "/system/functions", _json({"functionName": name}), name=name)

    def invoke(self, name: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        """Call a function; whatever it answers. Raises `NotFound` if there is no such function."""
        path = f"/function/{quote(name, safe='/')}"
        with self._answer("POST", path, body, headers, timeout_s=timeout_s) as response:
            return Answer(response.status, response.read(), _headers(response))

    def logs(self, name: str, tail: int, follow: bool) -> Iterator[dict[str, Any]]:
        """What instances of a function wrote, oldest first; with `follow` also what they will write."""
        query = f"name={quote(name, safe='')}&tail={tail}&follow={str(follow).lower()}"
        with self._answer("GET", f"/system/logs?{query}", timeout_s=None if follow else _TIMEOUT_S) as response:
            if response.status != http.client.OK:
                _raise(Answer(response.status, response.read()), name)
            for line in response:
                if line.strip():
                    yield _object(line)

    def _system(self, method: str, path: str, body: bytes | None = None, *, name: str = "") -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        with self._answer(method, path, body, headers) as response:
            answer = Answer(response.status, response.read())
        if answer.status >= http.client.BAD_REQUEST:
            _raise(answer, name)
        return answer.body

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float | None = _TIMEOUT_S,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request; its response, to be read inside the context."""
        connection = self._connection(timeout_s)
        try:
            connection.request(method, self._path + path, body, {**self._authorization(), **(headers or {})})
            yield connection.getresponse()
        except TimeoutError:
            raise GatewayUnavailable(f"the gateway at {self.url} did not answer within {timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise GatewayUnavailable(self._nobody(error)) from None
        finally:
            connection.close()

    def _connection(self, timeout_s: float | None) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._scheme == "https" else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=timeout_s)

    def _authorization(self) -> dict[str, str]:
        if self._credentials is None:
            return {}
        return {"Authorization": f"Basic {base64.b64encode(self._credentials.encode()).decode()}"}

    def _nobody(self, error: Exception) -> str:
        if isinstance(error, ConnectionRefusedError):
            return f"no gateway listens at {self.url}; start a platform with `fastgshare up`, or name another --gateway"
        if isinstance(error, socket.gaierror):
            return f"the host of the gateway {self.url} is not known ({error.strerror})"
        return f"the gateway at {self.url} broke off: {error or type(error).__name__}"


def _raise(answer: Answer, name: str) -> None:
    if answer.status == http.client.NOT_FOUND:
        raise NotFound("function", name)
    text = answer.text or f"the gateway answered with status {answer.status}"
    if answer.status == http.client.BAD_REQUEST:
        raise AskedWrongly(text)
    raise GatewayFailed(answer.status, text)


def _headers(response: http.client.HTTPResponse) -> dict[str, str]:
    return {key.lower(): value for key, value in response.getheaders()}


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document).encode()


def _object(body: bytes) -> dict[str, Any]:
    document = _parsed(body)
    if not isinstance(document, dict):
        raise GatewayFailed(http.client.OK, "the gateway's answer is not a JSON object")
    return document


def _list(body: bytes) -> list[dict[str, Any]]:
    document = _parsed(body)
    if not isinstance(document, list):
        raise GatewayFailed(http.client.OK, "the gateway's answer is not a JSON list")
    return document


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise GatewayFailed(http.client.OK, "the gateway's answer is not JSON; is it a gateway?") from None

"""One HTTP exchange with a deadline for all of it, however slowly the other side speaks.

The timeout of `urllib` is that of one wait: a server that sends a byte of its headers or its body
now and then holds a request for ever. Here every wait is for what is left until one end: status
line, headers, body, a proxy's answer and the words of a refusal alike. Only connecting to a name
with several addresses may take as long for each. Used by `judge_http`.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import time
import urllib.request
from typing import Any

_CHUNK = 65536


class ReplyTooSlow(OSError):
    """The reply was not whole when its time was over."""


def exchange(request: urllib.request.Request, seconds: float) -> bytes:
    """The whole body of the reply to `request`.

    Raises:
        ReplyTooSlow: it was not there within `seconds`, headers included.
        urllib.error.HTTPError: the server refuses; reading its words has the same end.
        http.client.IncompleteRead: the reply was cut off.
        OSError, http.client.HTTPException: other trouble on the way.
    """
    opener = urllib.request.build_opener(*_handlers(_Deadline(seconds)))
    with opener.open(request, timeout=seconds) as response:
        return _body(response)


def _body(response: http.client.HTTPResponse) -> bytes:
    """All of it, in pieces: what a server announces may be more than there is memory for."""
    expected, pieces = response.length, []
    while piece := response.read1(_CHUNK):
        pieces.append(piece)
    data = b"".join(pieces)
    if expected is not None and len(data) < expected:
        raise http.client.IncompleteRead(data, expected - len(data))
    return data


class _Deadline:
    """When an exchange that starts now has to be over."""

    def __init__(self, seconds: float):
        self.seconds, self.end = seconds, time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, more than none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> ReplyTooSlow:
        return ReplyTooSlow(f"no whole reply within {self.seconds:g} s")


def _handlers(deadline: _Deadline) -> tuple[urllib.request.BaseHandler, ...]:
    """How to open http and https so that their responses are read by the deadline."""

    def connect(kind: type, *args: Any, **options: Any) -> http.client.HTTPConnection:
        connection = kind(*args, **options)
        connection.response_class = functools.partial(_Response, deadline=deadline)
        return connection

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(functools.partial(connect, http.client.HTTPConnection), request)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(functools.partial(connect, http.client.HTTPSConnection), request)

    return Plain(), Secure()


class _Response(http.client.HTTPResponse):
    """A response that is read through a `_Reader`, from its status line on."""

    def __init__(self, sock: socket.socket, *args: Any, deadline: _Deadline, **options: Any):
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock, deadline))


class _Reader(io.RawIOBase):
    """Bytes of a socket; every wait is for what is left of the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: _Deadline):
        self._raw, self._sock, self._deadline = raw, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        self._sock.settimeout(self._deadline.left())
        try:
            return self._raw.readinto(buffer)
        except socket.timeout as error:
            raise self._deadline.passed() from error

    def close(self) -> None:
        self._raw.close()
        super().close()

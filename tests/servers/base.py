"""What every stand-in has: a loopback port, a record of what it was asked, a rate that it admits, faults on demand.

A stand-in is not a model. It answers what the test tells it to, in the exact form of the service. Used in a test as a
context manager, or as a program of its own (`serve`), where it must outlive or outrun the test.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    at: float
    """`time.monotonic` when it had been read."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What is sent back."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before anything is sent, beside the server's latency."""
    dropped: bool = False
    """The connection is closed after half of the body (with an empty body: without a word)."""
    trickle: float = 0.0
    """Seconds between the first and the second half of the body."""


class Bucket:
    """What a service that admits `rate` calls per second does: one second's worth at most is saved up."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._tokens = rate
        self._filled = time.monotonic()
        self._lock = threading.Lock()

    def admits(self) -> bool:
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self.rate, self._tokens + (now - self._filled) * self.rate)
            self._filled = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


class StandIn:
    """A service on the loopback interface. A subclass writes `answer` and `throttled`."""

    def __init__(self, *, latency: float = 0.0, rate: float | None = None) -> None:
        self.latency = latency
        self.bucket = Bucket(rate) if rate else None
        self.seen: list[Seen] = []
        self.replies: list[int] = []
        """Status of every reply, in order; 0 for a dropped connection."""
        self.faults: deque[Reply] = deque()
        """Sent instead of an answer, one per request, until none is left."""
        self.fault: Callable[[Seen], Reply | None] = lambda seen: None
        """Asked about every request: what is sent instead of an answer, or None."""
        self.lock = threading.RLock()
        self._server: ThreadingHTTPServer | None = None

    def answer(self, seen: Seen) -> Reply:
        """The service itself."""
        raise NotImplementedError

    def warm_up(self) -> None:
        """Load what the first answer would load: a service is never new to its callers."""

    def throttled(self, seen: Seen) -> Reply:
        """What the service sends to who asks too fast."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        assert self._server is not None, "not running"
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def open(self, port: int = 0) -> None:
        self._server = _Server(("127.0.0.1", port), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reply(self, seen: Seen) -> Reply:
        """What this request gets: too fast, a fault, or an answer."""
        with self.lock:
            self.seen.append(seen)
            planned = self.faults.popleft() if self.faults else None
        if self.bucket is not None and not self.bucket.admits():
            return self.throttled(seen)
        return planned or self.fault(seen) or self.answer(seen)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _handler(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60
        disable_nagle_algorithm = True  # headers and body are written apart, and clients acknowledge late

        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.send_response_only(100)
                self.end_headers()
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = stand_in.reply(Seen(self.command, self.path, headers, body, time.monotonic()))
            time.sleep(stand_in.latency + reply.delay)
            stand_in.replies.append(0 if reply.dropped else reply.status)
            self._send(reply)

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815  the library names them so

        def _send(self, reply: Reply) -> None:
            half = len(reply.body) // 2
            if not (reply.dropped and not reply.body):
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body[:half])
            if reply.dropped:
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if reply.trickle:
                self.wfile.flush()
                time.sleep(reply.trickle)
            self.wfile.write(reply.body[half:])

        def log_message(self, *_: object) -> None:
            return

    return Handler


def serve(make: Callable[..., StandIn]) -> None:
    """A stand-in as a program: prints its address, serves until its standard input ends, then prints what it saw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=None)
    options = parser.parse_args()
    server = make(latency=options.latency, rate=options.rate)
    server.warm_up()
    server.open(options.port)
    print(server.url, flush=True)  # noqa: T201  whoever started it reads this
    sys.stdin.read()
    server.close()
    counts = {str(status): server.replies.count(status) for status in sorted(set(server.replies))}
    print(json.dumps({"replies": counts}), flush=True)  # noqa: T201

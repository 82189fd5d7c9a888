"""Message Batches: questions are taken in bulk and answered when the service's clock is moved on.

Each question is answered, and billed, by whoever answers single ones. Everything that is sent has been read by the
SDK's own types first.

As a program, from the folder `tests`: `python -m servers.anthropic_batches`; a batch then takes a second.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal
from urllib.parse import parse_qs

from anthropic.types.messages import DeletedMessageBatch, MessageBatch, MessageBatchIndividualResponse
from pydantic import BaseModel

from servers.anthropic import Anthropic, RefusedError, error_reply
from servers.base import Reply, Seen, serve

Fate = Literal["answered", "errored", "canceled", "expired"]
"""What becomes of a question; "answered" with whatever the Messages stand-in says."""
PATH = "/v1/messages/batches"
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NOT_HERE = ("stream", "speed")
_HEADERS = {"content-type": "application/json", "request-id": "req_0"}


@dataclass
class Held:
    """A batch and what becomes of it."""

    id: str
    created: datetime
    requests: list[dict[str, Any]]
    ends: datetime
    canceled: datetime | None = None
    ended: datetime | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)


class BatchDesk:
    """The batches of one workspace.

    create  answers the parameters of one question with a message, or raises RefusedError
    takes   seconds that a batch takes
    """

    most_questions = 100_000
    most_bytes = 256_000_000
    lasts = timedelta(hours=24)
    kept = timedelta(days=29)

    def __init__(
        self, create: Callable[[Mapping[str, Any]], dict[str, Any]], takes: float = 3600.0, seed: int = 7
    ) -> None:
        self.create = create
        self.takes = takes
        self.fate: Callable[[Mapping[str, Any]], Fate] = lambda params: "answered"
        """Asked about the parameters of each question when its batch ends."""
        self.drop_answers = 0
        """So many batches are taken, and the connection is closed without a word."""
        self.answer_delay = 0.0
        """Seconds between taking a batch and saying so."""
        self.held: dict[str, Held] = {}
        self.asked: Counter[str] = Counter()
        """How often each question (digest of its parameters) was taken."""
        self._moved = 0.0
        self._random = random.Random(seed)  # noqa: S311  an order, no secret

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self._moved, UTC)

    def advance(self, seconds: float) -> None:
        """Let time pass at the service."""
        self._moved += seconds

    def route(self, seen: Seen) -> Reply:
        """The answer to a request about batches. Raises RefusedError."""
        self._pass_time()
        path, _, query = seen.path.partition("?")
        match (seen.method, *path.removeprefix(PATH).strip("/").split("/")):
            case ("POST", ""):
                return self._take(seen)
            case ("GET", ""):
                return self._list({name: values[0] for name, values in parse_qs(query).items()})
            case (_, batch, *_) if batch not in self.held:
                raise RefusedError(404, "not_found_error", f"Message Batch {batch} not found.")
            case ("GET", batch):
                return _sent(MessageBatch, self._shown(self.held[batch]))
            case ("GET", batch, "results"):
                return self._results(self.held[batch])
            case ("POST", batch, "cancel"):
                return self._cancel(self.held[batch])
            case ("DELETE", batch):
                return self._delete(self.held[batch])
        raise RefusedError(404, "not_found_error", f"{seen.method} {path}")

    def _take(self, seen: Seen) -> Reply:
        if len(seen.body) > self.most_bytes:
            raise RefusedError(413, "request_too_large", "Request exceeds the maximum size")
        requests = seen.json.get("requests")
        if not requests:
            raise _invalid("requests: List should have at least 1 item")
        if len(requests) > self.most_questions:
            raise RefusedError(413, "request_too_large", f"requests: at most {self.most_questions} items")
        for place, request in enumerate(requests):
            if not _ID.fullmatch(request["custom_id"]):
                raise _invalid(f"requests.{place}.custom_id: String should match pattern '^{_ID.pattern}$'")
        if len({request["custom_id"] for request in requests}) < len(requests):
            raise _invalid("requests: custom_id must be unique within the batch")
        self.asked.update(_digest(request["params"]) for request in requests)
        name = f"msgbatch_{len(self.held) + 1:02}{hashlib.sha256(seen.body).hexdigest()[:22]}"
        now = self.now
        self.held[name] = held = Held(name, now, requests, now + timedelta(seconds=self.takes))
        if self.drop_answers:
            self.drop_answers -= 1
            return Reply(200, b"", dropped=True)
        return replace(_sent(MessageBatch, self._shown(held)), delay=self.answer_delay)

    def _list(self, query: Mapping[str, str]) -> Reply:
        newest_first = sorted(self.held.values(), key=lambda held: held.created, reverse=True)
        names = [held.id for held in newest_first]
        limit = int(query.get("limit", 20))
        first, last = 0, len(names)
        if "after_id" in query:
            first = names.index(query["after_id"]) + 1
        if "before_id" in query:
            last = names.index(query["before_id"])
            first = max(0, last - limit)
        page = newest_first[first : min(last, first + limit)]
        data = [_checked(MessageBatch, self._shown(held)) for held in page]
        ends = {"first_id": page[0].id, "last_id": page[-1].id} if page else {"first_id": None, "last_id": None}
        return Reply(200, _json({"data": data, "has_more": first + limit < last, **ends}), _HEADERS)

    def _results(self, held: Held) -> Reply:
        if held.ended is None or self._archived(held):
            raise RefusedError(404, "not_found_error", f"No results for Message Batch {held.id}.")
        lines = [_checked(MessageBatchIndividualResponse, line) for line in held.lines]
        return Reply(200, b"".join(_json(line) + b"\n" for line in lines), {"content-type": "application/x-jsonl"})

    def _cancel(self, held: Held) -> Reply:
        if held.ended is not None:
            raise _invalid("Message Batch has ended")
        held.canceled = held.canceled or self.now
        held.ends = min(held.ends, self.now + timedelta(seconds=1))
        return _sent(MessageBatch, self._shown(held))

    def _delete(self, held: Held) -> Reply:
        if held.ended is None:
            raise _invalid("Message Batch has not ended; cancel it first")
        del self.held[held.id]
        return _sent(DeletedMessageBatch, {"id": held.id, "type": "message_batch_deleted"})

    def _pass_time(self) -> None:
        for held in self.held.values():
            due = min(held.ends, held.created + self.lasts)
            if held.ended is None and due <= self.now:
                held.ended = due
                held.lines = [self._line(held, request) for request in held.requests]
                self._random.shuffle(held.lines)

    def _line(self, held: Held, request: Mapping[str, Any]) -> dict[str, Any]:
        params = request["params"]
        fate = self.fate(params)
        if held.canceled:
            fate = "canceled"
        elif held.ends > held.created + self.lasts:
            fate = "expired"
        result = {"type": fate} if fate in {"canceled", "expired"} else self._answered(params, fate)
        return {"custom_id": request["custom_id"], "result": result}

    def _answered(self, params: Mapping[str, Any], fate: Fate) -> dict[str, Any]:
        try:
            if fate == "errored":
                raise _invalid("the question could not be processed")
            for name in _NOT_HERE:
                if params.get(name):
                    raise _invalid(f"{name}: not supported in batches")
            return {"type": "succeeded", "message": self.create(params)}
        except RefusedError as refused:
            return {"type": "errored", "error": json.loads(error_reply(refused).body)}

    def _archived(self, held: Held) -> bool:
        return self.now > held.created + self.kept

    def _shown(self, held: Held) -> dict[str, Any]:
        kinds = Counter(line["result"]["type"] for line in held.lines)
        archived = held.ended is not None and self._archived(held)
        status = "ended" if held.ended else "canceling" if held.canceled else "in_progress"
        return {
            "id": held.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": {
                "processing": len(held.requests) - len(held.lines),
                **{name: kinds[name] for name in ("succeeded", "errored", "canceled", "expired")},
            },
            "created_at": _time(held.created),
            "expires_at": _time(held.created + self.lasts),
            "ended_at": held.ended and _time(held.ended),
            "archived_at": _time(held.created + self.kept) if archived else None,
            "cancel_initiated_at": held.canceled and _time(held.canceled),
            "results_url": f"{PATH}/{held.id}/results" if held.ended and not archived else None,
        }


class AnthropicBatches(Anthropic):
    """The Messages API with batches: one key, one bill."""

    def __init__(self, *arguments: Any, takes: float = 3600.0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.desk = BatchDesk(lambda params: self.create(params, tier="batch"), takes)

    def route(self, seen: Seen) -> Reply:
        if not seen.path.startswith(PATH):
            return super().route(seen)
        self.admit(seen)
        with self.lock:
            return self.desk.route(seen)


def _invalid(message: str) -> RefusedError:
    return RefusedError(400, "invalid_request_error", message)


def _sent(kind: type[BaseModel], value: dict[str, Any]) -> Reply:
    return Reply(200, _json(_checked(kind, value)), _HEADERS)


def _checked(kind: type[BaseModel], value: dict[str, Any]) -> dict[str, Any]:
    kind.model_validate(value)
    return value


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _digest(params: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"


if __name__ == "__main__":
    serve(partial(AnthropicBatches, takes=1.0))

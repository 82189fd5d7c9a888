"""What a Message Batches service does: takes questions in bulk, answers them when its clock is moved on.

Each question is answered by a Messages stand-in. Everything that is sent has been read by the SDK's own types first.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from anthropic.types.messages import DeletedMessageBatch, MessageBatch, MessageBatchIndividualResponse
from pydantic import BaseModel

from servers.base import Reply, Seen

Fate = Literal["answered", "errored", "canceled", "expired"]
"""What becomes of a question; "answered" with whatever the Messages stand-in says."""
PATH = "/v1/messages/batches"
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_REFUSED = {
    "stream": "stream: not supported in batches",
    "speed": "speed: not supported in batches",
}


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

    messages  answers one question, as POST /v1/messages would
    takes     seconds that a batch takes
    """

    most_questions = 100_000
    most_bytes = 256_000_000
    lasts = timedelta(hours=24)
    kept = timedelta(days=29)

    def __init__(self, messages: Callable[[Seen], Reply], takes: float = 3600.0, seed: int = 7) -> None:
        self.messages = messages
        self.takes = takes
        self.fate: Callable[[Mapping[str, Any]], Fate] = lambda params: "answered"
        """Asked about the parameters of each question when its batch ends."""
        self.drop_answers = 0
        """So many batches are taken, and the connection is closed without a word."""
        self.held: dict[str, Held] = {}
        self.asked: Counter[str] = Counter()
        """How often each question (digest of its parameters) was taken."""
        self.usage: Counter[str] = Counter()
        """Billed tokens, by name."""
        self._moved = 0.0
        self._random = random.Random(seed)  # noqa: S311  an order, no secret

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self._moved, UTC)

    def advance(self, seconds: float) -> None:
        """Let time pass at the service."""
        self._moved += seconds

    def reply(self, seen: Seen) -> Reply | None:
        """The answer to a request about batches; None for any other request."""
        path, _, query = seen.path.partition("?")
        if urlsplit(path).path.rstrip("/").partition(PATH)[1] == "":
            return None
        self._pass_time()
        rest = path.removeprefix(PATH).strip("/").split("/")
        match (seen.method, *[part for part in rest if part]):
            case ("POST",):
                return self._create(seen)
            case ("GET",):
                return self._list({name: values[0] for name, values in parse_qs(query).items()})
            case (_, batch, *_) if batch not in self.held:
                return refusal(404, "not_found_error", f"Message Batch {batch} not found.")
            case ("GET", batch):
                return _sent(MessageBatch, self._shown(self.held[batch]))
            case ("GET", batch, "results"):
                return self._results(self.held[batch])
            case ("POST", batch, "cancel"):
                return self._cancel(self.held[batch])
            case ("DELETE", batch):
                return self._delete(self.held[batch])
        return refusal(405, "invalid_request_error", "Method Not Allowed")

    def _create(self, seen: Seen) -> Reply:
        if len(seen.body) > self.most_bytes:
            return refusal(413, "request_too_large", "Request exceeds the maximum size")
        requests = seen.json.get("requests") or []
        if not requests:
            return refusal(400, "invalid_request_error", "requests: List should have at least 1 item")
        if len(requests) > self.most_questions:
            return refusal(413, "request_too_large", f"requests: at most {self.most_questions} items")
        for place, request in enumerate(requests):
            if not _ID.fullmatch(request["custom_id"]):
                words = "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"
                return refusal(400, "invalid_request_error", f"requests.{place}.custom_id: {words}")
        if len({request["custom_id"] for request in requests}) < len(requests):
            return refusal(400, "invalid_request_error", "requests: custom_id must be unique within the batch")
        self.asked.update(_digest(request["params"]) for request in requests)
        name = f"msgbatch_{len(self.held) + 1:02}{hashlib.sha256(seen.body).hexdigest()[:22]}"
        held = Held(name, self.now, requests, self.now + timedelta(seconds=self.takes))
        self.held[name] = held
        if self.drop_answers:
            self.drop_answers -= 1
            return Reply(200, b"", dropped=True)
        return _sent(MessageBatch, self._shown(held))

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
            return refusal(404, "not_found_error", f"No results for Message Batch {held.id}.")
        lines = [_checked(MessageBatchIndividualResponse, line) for line in held.lines]
        return Reply(200, b"".join(_json(line) + b"\n" for line in lines), {"content-type": "application/x-jsonl"})

    def _cancel(self, held: Held) -> Reply:
        if held.ended is not None:
            return refusal(400, "invalid_request_error", "Message Batch has ended")
        held.canceled = held.canceled or self.now
        held.ends = min(held.ends, self.now + timedelta(seconds=1))
        return _sent(MessageBatch, self._shown(held))

    def _delete(self, held: Held) -> Reply:
        if held.ended is None:
            return refusal(400, "invalid_request_error", "Message Batch has not ended; cancel it first")
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
        faulty = [words for name, words in _REFUSED.items() if params.get(name)]
        if params.get("max_tokens") == 0:
            faulty.append("max_tokens: must be at least 1 in batches")
        if fate == "errored" or faulty:
            words = faulty[0] if faulty else "the question could not be processed"
            return {"type": "errored", "error": json.loads(refusal(400, "invalid_request_error", words).body)}
        reply = self.messages(Seen("POST", "/v1/messages", {}, _json(params), time.monotonic()))
        said = json.loads(reply.body)
        if reply.status != 200:
            return {"type": "errored", "error": said}
        said["usage"] = {**said["usage"], "service_tier": "batch"}
        self.usage.update({name: count for name, count in said["usage"].items() if isinstance(count, int)})
        return {"type": "succeeded", "message": said}

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


_HEADERS = {"content-type": "application/json", "request-id": "req_011CSHoEeqs5C35K2UUqR7Fy"}


def refusal(status: int, kind: str, words: str) -> Reply:
    """An error in the service's form."""
    error = {"type": "error", "error": {"type": kind, "message": words}, "request_id": _HEADERS["request-id"]}
    return Reply(status, _json(error), _HEADERS)


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

"""Claude's Message Batches: the same questions at half the price, answered within a day. Not on Amazon Bedrock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from workbench.approaches.base import Answer, Batch, Estimate
from workbench.approaches.claude_answers import answer_of
from workbench.approaches.claude_cost import Tariff
from workbench.approaches.claude_service import failure, garbled
from workbench.errors import PrerequisiteError, ProviderError, ServiceBusyError

if TYPE_CHECKING:
    from anthropic import Anthropic, AnthropicBedrock
    from anthropic.resources.messages import Batches
    from anthropic.types.messages import MessageBatch

_PATIENCE = 600.0
"""Seconds for a batch to travel, and for the service to take note of it."""
_AROUND = 64 + len('{"custom_id":"","params":},')
"""Bytes that a question takes in a batch beside its parameters, at most."""
_PAGE = 100


class _Claude(Protocol):
    """What batches need of `Claude`."""

    options: Any
    model: str
    tariff: Tariff

    @property
    def client(self) -> Anthropic | AnthropicBedrock: ...

    def estimate_call(self, width: int, height: int, *, batch: bool) -> Estimate: ...


class ClaudeBatches:
    """What makes `Claude` an approach that is `Batched`."""

    most_questions = 100_000
    most_bytes = 256_000_000
    kept_days = 29

    def batch_estimate(self: _Claude, width: int, height: int) -> Estimate:
        """At the prices of batches. Raises PrerequisiteError on Bedrock."""
        _check_platform(self)
        return self.estimate_call(width, height, batch=True)

    def weight(self, request: Mapping[str, Any]) -> int:
        """The bytes of a question in a batch, at most."""
        return len(json.dumps(request)) + _AROUND

    def submit(self: _Claude, requests: Mapping[str, Any]) -> Batch:
        """One POST, which the client never repeats: a second one would be a second batch."""
        entries: Any = [{"custom_id": name, "params": params} for name, params in requests.items()]
        try:
            return _batch(_batches(self).create(requests=entries, timeout=_PATIENCE))
        except Exception as error:
            fault = _fault(self, error)
            if isinstance(fault, ServiceBusyError) and _may_have_been_taken(error, fault):
                fault.billed = True
            raise fault from None

    def batches(self: _Claude) -> Iterator[Batch]:
        """Those of the workspace that the credentials belong to, newest first; a page at a time."""
        try:
            for batch in _batches(self).list(limit=_PAGE):
                yield _batch(batch)
        except Exception as error:
            raise _fault(self, error) from None

    def poll(self: _Claude, batch: str) -> Batch | None:
        """How it stands."""
        from anthropic import NotFoundError

        try:
            return _batch(_batches(self).retrieve(batch))
        except NotFoundError:
            return None
        except Exception as error:
            raise _fault(self, error) from None

    def collect(self: _Claude, batch: str) -> Iterator[tuple[str, Answer | ProviderError]]:
        """Line by line, as the service sends them."""
        try:
            with closing(_batches(self).results(batch, timeout=_PATIENCE)) as lines:
                for line in lines:
                    yield str(getattr(line, "custom_id", "")), _read(getattr(line, "result", None), self.tariff)
        except Exception as error:
            raise _fault(self, error) from None


def _batches(claude: _Claude) -> Batches:
    _check_platform(claude)
    batches: Batches = claude.client.messages.batches
    return batches


def _check_platform(claude: _Claude) -> None:
    if claude.options.bedrock:
        raise PrerequisiteError(
            "Claude: Amazon Bedrock takes no message batches; ask without `--batch`, or with a key of the Claude API"
            " and without `bedrock` in workbench.toml"
        )


def _batch(batch: MessageBatch) -> Batch:
    """As the contract has it. The client reads leniently: what is no batch raises ServiceBusyError here."""
    counts = getattr(batch, "request_counts", None)
    created, ended = getattr(batch, "created_at", None), getattr(batch, "ended_at", None)
    if counts is None or not isinstance(created, datetime):
        raise garbled()
    kinds = (counts.processing, counts.succeeded, counts.errored, counts.canceled, counts.expired)
    has_ended = batch.processing_status == "ended"
    return Batch(
        id=batch.id,
        created=f"{created.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        questions=sum(kinds),
        ended=has_ended,
        seconds=(ended - created).total_seconds() if has_ended and isinstance(ended, datetime) else 0.0,
        gone=has_ended and (batch.archived_at is not None or not batch.results_url),
    )


def _read(result: Any, tariff: Tariff) -> Answer | ProviderError:
    """One question's result."""
    match getattr(result, "type", None):
        case "succeeded":
            answer = answer_of(result.message, tariff, batch=True)
            return answer or ProviderError("provider_error", "Claude: the result is no message of the Messages API")
        case "errored":
            error = getattr(result.error, "error", None)
            kind, words = getattr(error, "type", None), getattr(error, "message", None)
            return ProviderError("provider_error", f"Claude: {kind or 'error'}: {words or 'no reason given'}")
        case "expired":
            return ProviderError("provider_error", "Claude: expired; the service did not come to it within a day")
        case "canceled":
            return ProviderError("provider_error", "Claude: canceled; its batch was canceled before it was answered")
        case other:
            return ProviderError("provider_error", f"Claude: a result of an unknown type, {other!r}")


def _fault(claude: _Claude, error: Exception) -> Exception:
    """What to raise for an exception of the client, of the connection under it, or of this module."""
    import httpx2
    from anthropic import AnthropicError, APIError

    if isinstance(error, httpx2.HTTPError):  # in the middle of the results
        return ServiceBusyError(f"Claude: the connection broke ({type(error).__name__})")
    if isinstance(error, AnthropicError) and not isinstance(error, APIError):
        return ServiceBusyError("Claude: the batch has no results yet")
    return failure(error, claude.model)


def _may_have_been_taken(error: Exception, fault: ServiceBusyError) -> bool:
    """Only a refusal by the rate limit, or no connection at all, is sure to have left no batch behind."""
    from anthropic import APIStatusError

    return fault.billed or (isinstance(error, APIStatusError) and not fault.throttled)

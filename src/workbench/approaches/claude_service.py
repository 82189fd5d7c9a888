"""The line to Claude: a client for either platform, and what its errors mean for a run.

Nothing here repeats a request, and no message carries what a client knows of credentials.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.approaches.aws import AwsOptions, keep_log_quiet, lacks_aws
from workbench.approaches.aws_errors import plain, translated
from workbench.approaches.headers import read_retry_after
from workbench.errors import ConfigError, CredentialsError, PrerequisiteError, ProviderError, ServiceBusyError

if TYPE_CHECKING:
    from anthropic import Anthropic, AnthropicBedrock, APIConnectionError, APIStatusError

_SPEND_LIMITS = ("enforced_spend_limit_reached", "contract_spend_limit_reached")
_BUSY = (408, 409, 500, 502, 503, 504, 529)
_LONGEST_MESSAGE = 300
_KEY = re.compile(r"\b(sk-[A-Za-z0-9_-]{4,}|(AKIA|ASIA)[A-Z0-9]{12,})|(?i:bearer\s+\S+)")
"""What looks like a credential; a service or proxy might repeat one in an error."""

_SECRETS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "AWS_SECRET_ACCESS_KEY")

_SENT = ("x-api-key", "authorization", "x-amz-security-token")
"""Headers whose last word is a credential, or was made of one."""

_NO_ADDRESS = "the address to ask is none; look at ANTHROPIC_BASE_URL (Bedrock: ANTHROPIC_BEDROCK_BASE_URL)"
_NO_KEY = "no credentials for Claude: set ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN, or ANTHROPIC_PROFILE)"


def open_client(base_url: str, timeout: float) -> Anthropic:
    """A client for the Claude API, with whatever credentials the environment holds; "" is the usual address."""
    from anthropic import Anthropic

    return Anthropic(base_url=base_url or None, max_retries=0, timeout=timeout)


def open_bedrock_client(base_url: str, timeout: float, region: str, profile: str) -> AnthropicBedrock:
    """A client for Amazon Bedrock; "" is what the environment says. Raises ConfigError without a region."""
    from anthropic import AnthropicBedrock

    keep_log_quiet()
    try:
        return AnthropicBedrock(
            aws_region=region or None,
            aws_profile=profile or None,
            base_url=base_url or None,
            max_retries=0,
            timeout=timeout,
        )
    except ValueError:
        raise ConfigError(
            "workbench.toml: approaches.claude.region: no AWS region is set here, in AWS_REGION or in the profile"
            " (a profile and AWS_BEARER_TOKEN_BEDROCK exclude each other)"
        ) from None


def missing_key() -> str:
    """What the Claude API would be asked without, in words; "" where credentials are found. Asks nobody."""
    import httpx2
    from anthropic import Anthropic, AnthropicError

    try:
        with Anthropic(max_retries=0) as client:
            found = client.api_key or client.auth_token or client.credentials
    except httpx2.InvalidURL:
        return _NO_ADDRESS
    except (AnthropicError, OSError, ValueError, TypeError) as error:
        return f"the profile of the Claude API cannot be read ({type(error).__name__}); {_NO_KEY}"
    return "" if found else _NO_KEY


def missing_aws(region: str, profile: str) -> str:
    """What Bedrock would be asked without, in words; "" where credentials are found. Asks nobody."""
    if os.environ.get("AWS_BEARER_TOKEN_BEDROCK") and not profile:
        return ""
    return lacks_aws(AwsOptions(region=region, profile=profile), "claude")


def failure(error: Exception, model: str, profile: str = "") -> Exception:
    """What to raise for an exception of the client: of this package, without a trace of what was sent."""
    import httpx2
    from anthropic import APIConnectionError, APIStatusError
    from anthropic import CredentialsError as UnknownCredentialsError

    if isinstance(error, APIStatusError):
        return _refused(error, model)
    if isinstance(error, APIConnectionError):
        return _cut_off(error)
    if isinstance(error, TypeError | RuntimeError) and ("authentication" in str(error) or "credentials" in str(error)):
        return CredentialsError(f"{_NO_KEY}; for Bedrock, AWS credentials are looked for")
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return garbled()
    if isinstance(error, httpx2.InvalidURL):
        return ConfigError(_NO_ADDRESS)
    if isinstance(error, UnknownCredentialsError):
        return CredentialsError(f"Claude: {_plain(str(error))}; {_ADVICE}")
    return translated(error, profile)


def garbled() -> ServiceBusyError:
    """For a reply without an error that is no message either: a proxy's page, a damaged body."""
    return ServiceBusyError("Claude: the reply is no message of the Messages API", billed=True)


def _refused(error: APIStatusError, model: str) -> Exception:
    told = _told(error)
    match error.status_code:
        case 429 if error.error_code in _SPEND_LIMITS:
            return PrerequisiteError(f"{told}; raise the spend limit of this account, or wait until it is renewed")
        case 429:
            return ServiceBusyError(told, throttled=True, retry_after=_retry_after(error))
        case 401 | 402 | 403:
            return CredentialsError(f"{told}; {'pay the bill' if error.status_code == 402 else _ADVICE}")
        case 404:
            return ConfigError(f"workbench.toml: approaches.claude.model: {model!r}: {told}")
        case status if status in _BUSY or status > 500:
            return ServiceBusyError(told, retry_after=_retry_after(error), billed=status == 504)
    if error.error_code == "image_dimensions_too_large":
        limit = getattr(error.details, "max_side_length_pixels", None)
        return ProviderError("provider_error", f"{told}; the limit is {limit} pixels a side")
    return ProviderError("provider_error", told)


_ADVICE = "check the key or profile, and what it may do"


def _told(error: APIStatusError) -> str:
    body: Any = error.body
    sent = error.request.headers
    said = error.api_message or (body.get("message") if isinstance(body, dict) else None) or error.type or "no reason"
    kind = f" {error.type}" if error.type else ""
    request = f" ({error.request_id})" if error.request_id else ""
    return _plain(f"Claude: HTTP {error.status_code}{kind}: {said}{request}", sent)


def _plain(text: str, sent: Mapping[str, str] | None = None) -> str:
    """Without anything that looks like a credential, or was sent as one, on one line, not too long."""
    credentials = [os.environ.get(name) for name in _SECRETS]
    credentials += [word for name in _SENT for word in (sent or {}).get(name, "").split()[-1:]]
    for secret in filter(None, credentials):
        text = text.replace(secret, "***")
    said = _KEY.sub("***", plain(text))
    return said if len(said) <= _LONGEST_MESSAGE else f"{said[:_LONGEST_MESSAGE]}…"


def _cut_off(error: APIConnectionError) -> Exception:
    """No answer came. It may be on the bill unless the question was never sent."""
    import httpx2
    from anthropic import APITimeoutError

    cause = error.__cause__
    if isinstance(cause, httpx2.LocalProtocolError):
        return CredentialsError(f"Claude: the key holds what cannot be sent, such as a line break; {_ADVICE}")
    if isinstance(cause, httpx2.UnsupportedProtocol):
        return ConfigError(_NO_ADDRESS)
    unsent = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
    what = "no answer in time" if isinstance(error, APITimeoutError) else "the connection broke"
    return ServiceBusyError(f"Claude: {what} ({type(cause).__name__})", billed=not unsent)


def _retry_after(error: APIStatusError) -> float | None:
    """Seconds, from whichever header says so; None where none does, or what it says has passed."""
    headers = error.response.headers
    own = read_retry_after(headers.get("retry-after-ms", ""))
    return (read_retry_after(headers.get("retry-after", "")) if own is None else own / 1000) or None

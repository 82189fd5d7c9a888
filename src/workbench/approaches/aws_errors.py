"""What botocore's exceptions mean to whoever runs an approach, in words that hold no credential."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Collection
from http import HTTPStatus
from traceback import walk_tb
from typing import Any

from workbench.approaches.headers import read_retry_after
from workbench.errors import CredentialsError, PrerequisiteError, ProviderError, ServiceBusyError

_LONGEST_MESSAGE = 400

_THROTTLED = frozenset(
    {"ThrottlingException", "Throttling", "ProvisionedThroughputExceededException", "RequestThrottled",
     "RequestThrottledException", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown", "429"}
)  # fmt: skip
_BUSY = frozenset({"InternalServerError", "InternalServerException", "InternalFailure", "ServiceUnavailable",
                   "ServiceUnavailableException", "RequestTimeout", "RequestTimeoutException"})  # fmt: skip
_NOT_KNOWN = frozenset(
    {"UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "ExpiredTokenException",
     "ExpiredToken", "RequestExpired", "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature",
     "IncompleteSignatureException", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
     "RequestTimeTooSkewed", "NotAuthorized", "OptInRequired", "SubscriptionRequiredException"}
)  # fmt: skip
_NOT_ALLOWED = frozenset({"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"})
_SECRETS = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b|(?:Credential|Signature)=[^\s,]+|x-amz-security-token\s*[:=]\s*\S+"
    r"|Authorization\s*[:=].*|Bearer\s+\S+",
    re.IGNORECASE,
)


def translated(error: Exception, profile: str, price_usd: float = 0.0, later: Collection[str] = ()) -> Exception:
    """What an exception of botocore means to whoever runs an approach; any other exception as it is."""
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    said = plain(str(error))
    match error:
        case boto.ClientError():
            return _refused(error.response, profile, later)
        case boto.ReadTimeoutError() | boto.ConnectionClosedError() | boto.ResponseStreamingError():
            return ServiceBusyError(f"no whole answer: {said}", billed=True)
        case boto.ConnectionError():
            return ServiceBusyError(f"not reached: {said}")
        case boto.HTTPClientError() if _UNSENT in str(error):
            return CredentialsError(
                f"the AWS credentials hold what cannot be sent, such as a line break; {_renew(profile)}"
            )
        case boto.HTTPClientError() | boto.IncompleteReadError():
            return ServiceBusyError(f"no whole answer: {said}", billed=True)
        case boto.NoCredentialsError() | boto.PartialCredentialsError() | boto.CredentialRetrievalError():
            return CredentialsError(f"{said}; {_renew(profile)}")
        case boto.SSOError() | boto.TokenRetrievalError() | boto.LoginError() | boto.RefreshWithMFAUnsupportedError():
            return CredentialsError(f"{said}; {_renew(profile)}")
        case boto.MetadataRetrievalError() | boto.NoAuthTokenError() | boto.ProfileNotFound():
            return CredentialsError(f"{said}; {_renew(profile)}")
        case boto.ParamValidationError():
            return ProviderError("provider_error", said)
        case ResponseParserError():
            return ProviderError("malformed_answer", f"not the service's JSON: {said}", price_usd)
        case boto.BotoCoreError():
            return PrerequisiteError(f"AWS cannot be asked with these settings: {said}")
        case AttributeError() | TypeError():
            return _unparsed(error, price_usd)
    return error


_UNSENT = "Invalid header value"
"""What http.client says, and then the value, of a header that holds a line break or the like."""

_SENT: deque[str] = deque(maxlen=16)
"""The last session tokens that were sent; those of a profile stand in no variable."""


def remember_token(request: Any, **_: Any) -> None:
    """For botocore's event `before-send`: no message will show the session token of this request."""
    token = request.headers.get("X-Amz-Security-Token", "")
    token = token.decode("latin-1") if isinstance(token, bytes) else token
    if token and token not in _SENT:
        _SENT.append(token)


def plain(text: str) -> str:
    """The first paragraph of a message, without anything that looks like a credential."""
    # what AWS says of a wrong signature goes on with the whole signed request, session token included
    first = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    names = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK")
    for secret in (*map(os.environ.get, names), *tuple(_SENT)):
        if secret:
            first = first.replace(secret, "…").replace(secret.strip() or secret, "…")
    return _SECRETS.sub("…", first)[:_LONGEST_MESSAGE]


def _unparsed(error: Exception, price_usd: float) -> Exception:
    """What botocore's parser takes for an object and is none; any other exception as it is."""
    status = _parsed_status(error)
    if status == HTTPStatus.OK:
        return ProviderError("malformed_answer", "an answer that is not in the service's form", price_usd)
    if status:
        return ServiceBusyError("an error came back that is not in the service's form, as from a proxy")
    return error


def _parsed_status(error: Exception) -> int:
    """The HTTP status of what botocore's parser stumbled over, having found something else than objects; else 0."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    if not frames or frames[-1].f_globals.get("__name__") != "botocore.parsers":
        return 0
    responses = (frame.f_locals.get("response") for frame in frames if frame.f_code.co_name == "parse")
    return next((int(response["status_code"]) for response in responses if isinstance(response, dict)), -1)


def _refused(response: dict[str, Any], profile: str, later: Collection[str]) -> Exception:
    code = str(response.get("Error", {}).get("Code", ""))
    detail = plain(f"{code}: {response.get('Error', {}).get('Message', '')}")
    metadata = response.get("ResponseMetadata", {})
    status, headers = metadata.get("HTTPStatusCode", 0), metadata.get("HTTPHeaders", {})
    if code in _THROTTLED or status == 429:
        return ServiceBusyError(detail, throttled=True, retry_after=_retry_after(headers))
    if code in _BUSY or code in later or status >= 500:
        return ServiceBusyError(detail, retry_after=_retry_after(headers))
    if code in _NOT_KNOWN:
        return CredentialsError(f"AWS does not take the credentials: {detail}; {_renew(profile)}")
    if code in _NOT_ALLOWED:
        return CredentialsError(f"AWS does not allow it: {detail}; ask for that permission, or take another profile")
    if code == "ResourceNotFoundException":
        return PrerequisiteError(f"AWS has no such thing here: {detail}; look at its ARN, the region and the account")
    return ProviderError("provider_error", detail)


def _retry_after(headers: dict[str, str]) -> float | None:
    """Seconds; from milliseconds (`x-amz-retry-after`), seconds or a date (`retry-after`)."""
    own = read_retry_after(headers.get("x-amz-retry-after", ""))
    return read_retry_after(headers.get("retry-after", "")) if own is None else own / 1000


def _renew(profile: str) -> str:
    chosen = f" --profile {profile}" if profile else ""
    return f"renew them, for example with `aws sso login{chosen}` or `aws configure{chosen}`"

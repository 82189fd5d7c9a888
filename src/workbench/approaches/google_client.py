"""Google's Vision client as an approach needs it: credentials, one request per call, errors in this package's words.

The client speaks REST here, also against the service itself: one HTTP request per question can be counted and sent
through any proxy, and the gRPC library with its own threads and retries stays out. Everything of Google's is imported
when it is first used; the packages come with `pip install google-cloud-vision`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from workbench.approaches.headers import read_retry_after
from workbench.errors import CredentialsError, ProviderError, ServiceBusyError

INSTALL = "pip install google-cloud-vision"
ENDPOINT = "https://vision.googleapis.com"

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_FILE_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_PATIENCE_SECONDS = 60.0
_THROTTLED, _UNAVAILABLE = 8, 14
"""Of google.rpc.Code: RESOURCE_EXHAUSTED, UNAVAILABLE."""


def lacking(metadata_server: bool) -> str:
    """What is missing to ask, in words; "" if nothing is. Looks at packages and files only, and asks nobody.

    metadata_server  the credentials are those of the Google machine that this runs on; only asking it could tell more
    """
    if not _installed():
        return f"the Google Vision client is not installed: {INSTALL}"
    if metadata_server:
        return ""
    named = os.environ.get(_FILE_VARIABLE)
    if named:
        return "" if Path(named).is_file() else f"{_FILE_VARIABLE} names a file that does not exist"
    if _default_file().is_file():
        return ""
    return (
        f"no Google credentials: set {_FILE_VARIABLE} to a key file, run `gcloud auth application-default login`, or, "
        "on a machine of Google's, set metadata_server = true in [approaches.google-vision]"
    )


def _installed() -> bool:
    try:
        return find_spec("google.cloud.vision") is not None
    except ModuleNotFoundError:  # not even the package above it
        return False


def _default_file() -> Path:
    """Where `gcloud auth application-default login` leaves credentials."""
    told = os.environ.get("CLOUDSDK_CONFIG")
    if told:
        folder = Path(told)
    elif os.name == "nt":
        folder = Path(os.environ.get("APPDATA", "")) / "gcloud"
    else:
        folder = Path.home() / ".config" / "gcloud"
    return folder / "application_default_credentials.json"


class VisionClient:
    """The client, made at the first question. May be asked from several threads at once."""

    def __init__(self, endpoint: str, quota_project: str, metadata_server: bool) -> None:
        self._endpoint = endpoint
        self._quota_project = quota_project
        self._metadata_server = metadata_server
        self._lock = threading.Lock()
        self._client: Any = None

    def annotate(self, request: Mapping[str, Any]) -> Any:
        """Sends one `BatchAnnotateImagesRequest` about one image; returns its `AnnotateImageResponse`.

        None where the service answered with something else. Raises ServiceBusyError, CredentialsError or
        ProviderError; no message holds a credential.
        """
        client = self._made()
        from google.protobuf.json_format import ParseError

        try:
            found = client.batch_annotate_images(request=dict(request), retry=None, timeout=_PATIENCE_SECONDS)
        except (ParseError, UnicodeDecodeError):
            return None
        except Exception as error:
            failed = _meaning(error)
        else:
            return found.responses[0] if len(found.responses) == 1 else None
        raise failed  # not within the handler: the original holds the request with its token

    def close(self) -> None:
        """Let go of connections; the next question opens new ones."""
        with self._lock:
            if self._client is not None:
                self._client.transport.close()
                self._client = None

    def _made(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._make()
            return self._client

    def _make(self) -> Any:
        missing = lacking(self._metadata_server)
        if missing:
            raise CredentialsError(missing)
        from google.api_core.client_options import ClientOptions
        from google.cloud.vision import ImageAnnotatorClient

        try:
            client = ImageAnnotatorClient(
                credentials=self._credentials(),
                transport="rest",
                client_options=ClientOptions(api_endpoint=self._endpoint),
            )
        except Exception as error:  # a damaged file makes the library raise nearly anything
            kind = type(error).__name__  # and no more of it: the words may quote the file
            raise CredentialsError(f"the Google credentials that were found cannot be used ({kind})") from None
        # The session would ask up to twice more after HTTP 401; the library has no public switch for it.
        cast("Any", client.transport)._session._max_refresh_attempts = 0
        return client

    def _credentials(self) -> Any:
        project = self._quota_project or None
        if self._metadata_server:
            from google.auth import compute_engine

            machine: Any = compute_engine.Credentials
            return machine(quota_project_id=project, scopes=_SCOPES)
        import google.auth

        # A file is there (see `lacking`), so that the library does not go on to ask for a metadata server.
        return google.auth.default(scopes=_SCOPES, quota_project_id=project)[0]


def image_error(code: int, message: str) -> ProviderError:
    """A google.rpc.Status about one image, as it stands within an answer."""
    words = f"Google Vision could not answer about this image (code {code}): {_cut([message])}"
    if code in (_THROTTLED, _UNAVAILABLE):
        return ServiceBusyError(words, throttled=code == _THROTTLED)
    return ProviderError("provider_error", words)


def _meaning(error: Exception) -> Exception:
    """What came instead of an answer, in this package's words; the error itself where it means none of this."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError, TransportError
    from requests import RequestException

    match error:
        case GoogleAPICallError():
            return _refusal(error)
        case TransportError():
            return ServiceBusyError("the service that gives Google's access tokens cannot be reached")
        case GoogleAuthError():
            return CredentialsError(f"Google does not take the credentials: {_cut(error.args)}")
        case RequestException():
            return _unanswered(error)
        case AttributeError() | TypeError():  # the client reads an error that is no JSON object
            return ServiceBusyError("an error came back that is not in Google's form, as from a proxy")
    return error


def _refusal(error: Any) -> Exception:
    """What an HTTP status from 400 up means."""
    code, words = int(error.code or 0), _told(error)
    if code in (401, 403):
        return CredentialsError(f"Google Vision does not let these credentials in (HTTP {code}): {words}")
    if code == 429:
        return ServiceBusyError(f"HTTP 429: {words}", throttled=True, retry_after=_retry_after(error))
    if code >= 500:
        return ServiceBusyError(f"HTTP {code}: {words}", retry_after=_retry_after(error), billed=code == 504)
    return ProviderError("provider_error", f"HTTP {code}: {words}")


def _told(error: Any) -> str:
    """The service's own words: without address, and without the token should it have quoted that."""
    words = str(error.message).partition(": ")[2] or str(error.message)
    sent = getattr(getattr(error.response, "request", None), "headers", {})
    token = str(sent.get("Authorization", "")).removeprefix("Bearer ")
    return _cut([words.replace(token, "…") if token else words])


def _cut(words: Sequence[object]) -> str:
    return str(next(iter(words), ""))[:300]


def _unanswered(error: Any) -> ServiceBusyError:
    """No answer came. What had been sent may have been worked on, and then it costs."""
    from requests.exceptions import ConnectTimeout
    from urllib3.exceptions import NewConnectionError

    reason = getattr(next(iter(error.args), None), "reason", None)
    unsent = isinstance(error, ConnectTimeout) or isinstance(reason, NewConnectionError)
    words = "Google Vision cannot be reached" if unsent else "the connection broke off before Google Vision answered"
    return ServiceBusyError(f"{words} ({type(error).__name__})", billed=not unsent)


def _retry_after(error: Any) -> float | None:
    """Seconds, from google.rpc.RetryInfo or the header; None where neither names a time to come."""
    delays = [detail.get("retryDelay") for detail in error.details if isinstance(detail, Mapping)]
    headers = getattr(error.response, "headers", {})
    said = (read_retry_after(str(told).removesuffix("s")) for told in (*delays, headers.get("Retry-After")))
    return next(filter(None, said), None)

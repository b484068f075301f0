"""Everything that can go wrong with CML, as one tree whose branches never meet.

    CmlError
    ├── CmlInputError (ValueError)      what was given cannot be used; nothing was sent
    │   └── CmlLookupError              a name stands for nothing, or for several things
    ├── CmlUnavailableError             we could not ask: no verdict about any run
    │   ├── CmlConnectionError          no answer; `sent` tells whether the request may have had an effect
    │   ├── CmlServerError              429 and 5xx
    │   └── CmlProtocolError            an answer that is not CML's: HTML, broken JSON, a redirect
    │       └── CmlResponseTooLargeError  an answer larger than is read; a list is read again with smaller pages
    ├── CmlRefusedError                 CML said no, and would say so again
    │   ├── CmlUnauthorizedError        401
    │   ├── CmlForbiddenError           403
    │   ├── CmlNotFoundError            404
    │   └── CmlJobBusyError             another run of the job is active, or no capacity (`starting` waits)
    ├── CmlInterruptedError             this process was told to end
    ├── CmlStartError                   a start that cannot be settled
    │   ├── CmlRunMayExistError         sent, and its fate is unknown
    │   └── CmlSupersededError          a newer try of the same task is at work
    └── CmlJobRunError                  the run is known, and it did not end well
        ├── CmlWaitTimeoutError         not over in the time given
        └── CmlUnknownStatusError       CML itself does not know its status

The law: a message says what was asked, what came back and what to do. It quotes at most 200 characters of an answer,
and never a value of an environment: CML echoes a project's passwords in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Request, Response

QUOTE_LENGTH = 200
RETRY_AFTER_CAP = 600.0
"""Seconds. A server that asks for more is asked again after ten minutes: its word may be years, or a mistake."""

GRPC_FAILED_PRECONDITION = 9
"""gRPC's code in the 400 that answers a second start while a run is active (seen on live workspaces)."""


class CmlError(Exception):
    """Whatever went wrong with CML."""


class CmlInputError(CmlError, ValueError):
    """What the user gave cannot be used. The message names the field and the way out; nothing was sent."""


class CmlLookupError(CmlInputError):
    """A name stands for no project or job, or for several; the message lists what there is."""


class CmlUnavailableError(CmlError):
    """CML could not be asked, so nothing is known about any run. The only branch worth asking again."""

    sent = True
    """Whether the request may have reached CML and taken effect."""

    retry_after: float | None = None
    """Seconds CML asked us to stay away, if it did; never above `RETRY_AFTER_CAP`."""


class CmlConnectionError(CmlUnavailableError):
    """No answer came. `sent` is False only if the request cannot have left: refused port, unknown host, TLS."""

    def __init__(self, message: str, *, sent: bool, unreachable: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.unreachable = unreachable
        """The address itself is the likely mistake: unknown host, closed port, TLS that does not verify."""


class CmlServerError(CmlUnavailableError):
    """CML, or a gateway before it, answered 429 or 5xx."""

    def __init__(self, request: Request, response: Response) -> None:
        super().__init__(f"{_asked(request)} was answered {response.status}{quote(request, response)}.")
        self.status = response.status
        self.retry_after = retry_after(response)


class CmlProtocolError(CmlUnavailableError):
    """An answer came that API v2 (or v1) never gives: a login page, a redirect, cut JSON, a missing field."""


class CmlResponseTooLargeError(CmlProtocolError):
    """The answer is larger than is read. Asking again for the same gets the same."""


class CmlRefusedError(CmlError):
    """CML understood and said no. Sending the same again gets the same answer."""

    advice = ""

    def __init__(self, request: Request, response: Response, advice: str | None = None) -> None:
        said = quote(request, response)
        way_out = self.advice if advice is None else advice
        super().__init__(f"{_asked(request)} was refused with {response.status}{said}.{way_out and ' '}{way_out}")
        self.status = response.status
        self.grpc_code = _grpc_code(response)
        self.said = said

    @property
    def is_busy(self) -> bool:
        """In answer to a start: CML says that another run of the job is active, or that there is no capacity.

        Seen in life: 400 with gRPC code 9 and "already active", and 409 "out of quota"; 412 is what older gateways make
        of code 9.
        """
        said = self.said.casefold()
        is_out_of_quota = self.status == 409 and "quota" in said
        return is_out_of_quota or (self.status in {400, 409, 412} and "already active" in said)

    @property
    def is_conflict(self) -> bool:
        """In answer to a start: the state of something forbids it, perhaps an active run; the text does not say so."""
        return not self.is_busy and (
            self.status in {409, 412} or (self.status == 400 and self.grpc_code == GRPC_FAILED_PRECONDITION)
        )


class CmlUnauthorizedError(CmlRefusedError):
    """401: the key is wrong, expired, or of the other API."""

    advice = (
        "The API key in the connection's Password is wrong, has expired, or belongs to the other API version "
        "(a legacy API key works on v1 only, an API key on v2 only). Make a new key in CML under "
        "User Settings > API Keys and check the connection's Extra 'api_version'."
    )


class CmlForbiddenError(CmlRefusedError):
    """403: the key is good, its user may not do this. CML also says it for a project the user cannot see."""

    advice = (
        "The key's user may not do this: check that the project exists and that the user has at least the "
        "Operator permission in it, and that the key was made with the audience API."
    )


class CmlNotFoundError(CmlRefusedError):
    """404: nothing is there, or nothing this user can see."""

    advice = "Check the project, the job and the run that were given, and that the key's user can see the project."


class CmlJobBusyError(CmlRefusedError):
    """CML takes no start of this job now. `out_of_quota`: for want of capacity, not because of another run."""

    def __init__(self, request: Request, response: Response) -> None:
        super().__init__(request, response, "")
        self.out_of_quota = "quota" in self.said.casefold()


class CmlInterruptedError(CmlError):
    """This process was told to end while a conversation was pausing."""


class CmlStartError(CmlError):
    """A start that this task cannot settle by going on."""


class CmlRunMayExistError(CmlStartError):
    """A start was sent and its fate is unknown. Starting again could run the job twice."""


class CmlSupersededError(CmlStartError):
    """A newer try of the same task instance has been at this job: this process is a leftover and must not act."""


class CmlJobRunError(CmlError):
    """A wait did not come to a good end. Carries the run as last seen; None if there was none yet."""

    def __init__(self, message: str, run: JobRun | None) -> None:
        super().__init__(message)
        self.run = run


class CmlWaitTimeoutError(CmlJobRunError):
    """The run was not over in the time given for it."""


class CmlUnknownStatusError(CmlJobRunError):
    """For too long CML has given a status that says neither active nor over. The run is left alone."""


def refusal(request: Request, response: Response) -> CmlError:
    """The error for an answer that is not 2xx."""
    if response.status in {408, 425, 429} or (response.status >= 500 and response.status != 501):
        return CmlServerError(request, response)
    if response.status < 400:
        return CmlProtocolError(
            f"{_asked(request)} was answered {response.status}, a redirect. Redirects are not followed, so that no "
            f"key travels elsewhere; use the final https:// address of the workspace as the connection's Host. "
            f"A redirect to a login page means that the key was not accepted."
        )
    if _is_foreign(response):
        return CmlProtocolError(
            f"{_asked(request)} was answered {response.status}{quote(request, response)}, and not by CML, whose errors "
            f"are JSON. A gateway may have answered while the workspace is away; else check the connection's Host."
        )
    kinds: dict[int, type[CmlRefusedError]] = {401: CmlUnauthorizedError, 403: CmlForbiddenError, 404: CmlNotFoundError}
    return kinds.get(response.status, CmlRefusedError)(request, response)


def not_json(request: Request, response: Response, why: str) -> CmlProtocolError:
    """The error for a 2xx answer whose body is not the JSON object the API gives."""
    kind = response.headers.get("content-type", "no content type").partition(";")[0][:60]
    hint = (
        " A login or error page instead of JSON usually means an expired key, a Host that is not the workspace's, "
        "or a gateway in between."
        if "html" in kind
        else ""
    )
    return CmlProtocolError(f"{_asked(request)}: expected JSON, got {kind} ({why}){quote(request, response)}.{hint}")


def retry_after(response: Response) -> float | None:
    """Seconds of the Retry-After header, as number or as HTTP date; None where absent, negative or junk.

    A date is read against the answer's own Date header, so that CML's clock and ours need not agree.
    """
    word = response.headers.get("retry-after", "").strip()
    if not word:
        return None
    if word.isascii() and word.isdigit():
        return min(float(word), RETRY_AFTER_CAP)
    try:
        then = parsedate_to_datetime(word)
        seconds = (then - (answered_at(response) or datetime.now(UTC))).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(seconds, RETRY_AFTER_CAP) if seconds >= 0 else None


def answered_at(response: Response) -> datetime | None:
    """The server's clock when it answered, from the Date header; None where there is none that can be read."""
    try:
        date = parsedate_to_datetime(response.headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def quote(request: Request, response: Response) -> str:
    """` ("what CML said")`, or nothing where quoting could show what must not be shown.

    Of a JSON object only `message` or `error` is quoted, of HTML only the title: the rest of a body may be a run,
    and a run holds the passwords of its project. Values this request itself sent are blotted out.
    """
    said = _said(response)
    for value in _sent_values(request):
        said = said.replace(value, "***")
    said = " ".join(said.split())
    if len(said) > QUOTE_LENGTH:
        said = said[: QUOTE_LENGTH - 1] + "…"
    return f' ("{said}")' if said else ""


def _sent_values(request: Request) -> list[str]:
    """What the request put into an environment, longest first; as JSON writes it, too.

    The environment of a start is an object; that of a changed job is an object written as a string.
    """
    sent = request.json.get("environment") if request.json else None
    found = {sent} if isinstance(sent, str) else set()
    if isinstance(sent, str):
        sent = _loads(sent.encode("utf-8", "replace"))
    if isinstance(sent, Mapping):
        found |= {str(value) for value in sent.values()}
    found |= {json.dumps(value)[1:-1] for value in found}
    return sorted((value for value in found if len(value) > 2), key=len, reverse=True)


def _said(response: Response) -> str:
    document = _loads(response.body)
    if isinstance(document, dict):
        for name in ("message", "error"):
            text = document.get(name)
            if isinstance(text, str) and text:
                return text
        return ""
    text = response.body[:20_000].decode("utf-8", "replace")
    if _is_html(response):
        title = re.search(r"<title[^>]*>([^<]*)</title>", text, re.IGNORECASE)
        return title.group(1) if title else ""
    return "" if "environment" in text.casefold() else text


def _is_foreign(response: Response) -> bool:
    """Whether an error is not CML's, whose errors are JSON: an ingress answers 404 in HTML while a workspace restarts.

    401 is CML's with any body, because a key that was revoked must not be asked with for hours. A request that is too
    large is refused by whatever stands before CML, and would be again.
    """
    if response.status in {401, 413, 414, 431}:
        return False
    return _is_html(response) or (response.status in {403, 404} and not _is_cml_error(response))


def _is_html(response: Response) -> bool:
    return "html" in response.headers.get("content-type", "") or b"<html" in response.body[:1000].lower()


def _is_cml_error(response: Response) -> bool:
    document = _loads(response.body)
    return isinstance(document, dict) and any(name in document for name in ("message", "error", "code"))


def _grpc_code(response: Response) -> int | None:
    document = _loads(response.body)
    code = document.get("code") if isinstance(document, dict) else None
    return code if isinstance(code, int) else None


def _loads(body: bytes) -> object:
    try:
        return json.loads(body[:1_000_000])
    except (ValueError, RecursionError):
        return None


def _asked(request: Request) -> str:
    return f"{request.method} {request.path}"

"""The response of a registry, and the error that it means."""

import asyncio
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tagferry.digits import whole_number
from tagferry.errors import Invalid, NotFound, Refused, TagferryError, TooLarge, Unavailable, Unsupported
from tagferry.http.content_coding import codings
from tagferry.http.explanation import explain, one_line, without_secrets
from tagferry.http.retry_after import retry_after
from tagferry.metrics import BOUND_REACHED
from tagferry.names import Digest
from tagferry.oci.strict_json import has_too_many_values
from tagferry.remote.transport.throttle import DEFAULT_WAIT


class RateLimited(Unavailable):
    """A registry refused a request because of too many requests (429), without processing it."""


class NotAuthenticated(Refused):
    """A registry or its token server did not authenticate the caller (401)."""


class LargeAnswerSlot:
    """The memory slot of one large response, among those that a registry's requests may hold at once.

    Args:
        semaphore: the free slots.
    """

    def __init__(self, semaphore: asyncio.Semaphore) -> None:
        self._held: asyncio.Semaphore | None = None
        self._semaphore = semaphore

    async def acquire(self) -> None:
        """Wait for a slot."""
        await self._semaphore.acquire()
        self._held = self._semaphore

    def release(self) -> None:
        """Free the slot."""
        if self._held is not None:
            self._held.release()
            self._held = None

    def __del__(self) -> None:
        self.release()


class Answer:
    """A status, headers and a body of bounded size.

    Attributes:
        url: the final URL after redirects, to which relative URLs in the headers are relative.
        slot: the memory slot of a large response.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        url: str = "",
        slot: LargeAnswerSlot | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.url = url
        self.slot = slot

    def release(self) -> None:
        """Free the memory slot of a large response; otherwise it is freed when the response is collected."""
        if self.slot is not None:
            self.slot.release()

    @cached_property
    def digest(self) -> Digest | None:
        """The `Docker-Content-Digest`, if its algorithm is supported."""
        return _digest(self.headers.get("Docker-Content-Digest", ""))

    @property
    def length(self) -> int | None:
        """The content's length in bytes; None if it is not declared, or is that of compressed content."""
        if codings(self.headers):
            return None
        return whole_number(self.headers.get("Content-Length", ""))

    @property
    def media_type(self) -> str:
        """The Content-Type without its parameters, in lower case."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @cached_property
    def document(self) -> dict[str, Any]:
        """The JSON object in the body; empty if there is none, or one with too many values."""
        if has_too_many_values(self.body):
            BOUND_REACHED.labels(bound="json_values").inc()
            return {}
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def code(self) -> str:
        """The registry's error code (distribution-spec, "Error Codes"), or an empty string."""
        return str(self._error.get("code", ""))

    @property
    def missing(self) -> Digest | None:
        """The digest that an error names, if any."""
        detail = self._error.get("detail")
        named = detail.values() if isinstance(detail, dict) else [detail]
        found = (_digest(value) for value in named if isinstance(value, str))
        return next((digest for digest in found if digest), None)

    @property
    def explanation(self) -> str:
        """The registry's error code and message, or the reason in another form of body, shortened for messages."""
        parts = (self.code, str(self._error.get("message") or ""))
        message = ": ".join(part for part in parts if part) or explain(self.document, self.body, self.media_type)
        return one_line(without_secrets(message))

    @property
    def _error(self) -> dict[str, Any]:
        errors = self.document.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else None
        return first if isinstance(first, dict) else {}


def failure(registry: str, task: str, answer: Answer) -> TagferryError:
    """Return the error that an unwanted response means.

    Returns:
        Refused for 401 and 403, NotFound for 404 (of the kind `resource`; callers that know the kind handle 404
        themselves), Unsupported for 405 and 501, TooLarge for 413, RateLimited for 429, Unavailable for server errors,
        Invalid for other refusals.
    """
    message = f"{answer.status} {answer.explanation.removeprefix(str(answer.status)).strip()}".strip()
    sentence = f"registry {registry} answered {message} when asked to {task}"
    wait = retry_after(answer.headers)
    match answer.status:
        case 401:
            return NotAuthenticated(sentence)
        case 403:
            return Refused(sentence)
        case 404:
            return NotFound(
                "resource", "", f"it answered {message} when asked to {task}", where=f"at registry {registry}"
            )
        case 405 | 501:
            return Unsupported(sentence)
        case 413:
            return TooLarge(f"the request to {task}", f"is too large for registry {registry}, which answered {message}")
        case 429:
            return RateLimited(sentence, retry_after=wait or DEFAULT_WAIT)
        case 408:
            return Unavailable(sentence, retry_after=wait)
        case status if status >= 500 or status < 400:
            return Unavailable(sentence, retry_after=wait)
    return Invalid(f"the request to {task}", f"was refused by registry {registry}, which answered {message}")


def _digest(text: str) -> Digest | None:
    try:
        return Digest(text)
    except Invalid:
        return None

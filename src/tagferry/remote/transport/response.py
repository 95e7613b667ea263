"""What a registry answered, and which error an unwanted answer means."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """A registry refused a request unseen, because there were too many of them (429)."""


class NotAuthenticated(Refused):
    """A registry, or its token server, does not accept who is asking (401), whatever was asked."""


class LargeAnswerSlot:
    """The room of one large answer among those of its registry that may be held at once.

    Args:
        semaphore: how many more there may be.
    """

    def __init__(self, semaphore: asyncio.Semaphore) -> None:
        self._held: asyncio.Semaphore | None = None
        self._semaphore = semaphore

    async def acquire(self) -> None:
        """Wait until there is room."""
        await self._semaphore.acquire()
        self._held = self._semaphore

    def release(self) -> None:
        """Make room for another one."""
        if self._held is not None:
            self._held.release()
            self._held = None

    def __del__(self) -> None:
        self.release()


@dataclass(frozen=True)
class Answer:
    """A status, headers and a body of bounded length.

    Attributes:
        url: what answered, after all redirects; what is relative in the headers is relative to it.
        slot: what a large answer takes at its registry.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    url: str = ""
    slot: LargeAnswerSlot | None = field(default=None, repr=False, compare=False)

    def release(self) -> None:
        """Note that a large answer is held no longer; where nobody does, that is noted when it is collected."""
        if self.slot is not None:
            self.slot.release()

    @cached_property
    def digest(self) -> Digest | None:
        """The `Docker-Content-Digest`, where there is one that can be verified here."""
        return _digest(self.headers.get("Docker-Content-Digest", ""))

    @property
    def length(self) -> int | None:
        """The content's length in bytes; None if it is not declared, or is the length of compressed content."""
        if codings(self.headers):
            return None
        return whole_number(self.headers.get("Content-Length", ""))

    @property
    def media_type(self) -> str:
        """The Content-Type without its parameters, in lower case."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @cached_property
    def document(self) -> dict[str, Any]:
        """The JSON object in the body; an empty one where there is none, or one of too many values."""
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
        """The registry's own error code (distribution-spec, "Error Codes"), or nothing."""
        return str(self._error.get("code", ""))

    @property
    def missing(self) -> Digest | None:
        """The digest that an error speaks of, where it names one."""
        detail = self._error.get("detail")
        named = detail.values() if isinstance(detail, dict) else [detail]
        found = (_digest(value) for value in named if isinstance(value, str))
        return next((digest for digest in found if digest), None)

    @property
    def explanation(self) -> str:
        """The registry's own code and message, or what its body says in another form, as short as a sentence bears."""
        parts = (self.code, str(self._error.get("message") or ""))
        message = ": ".join(part for part in parts if part) or explain(self.document, self.body, self.media_type)
        return one_line(without_secrets(message))

    @property
    def _error(self) -> dict[str, Any]:
        errors = self.document.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else None
        return first if isinstance(first, dict) else {}


def failure(registry: str, task: str, answer: Answer) -> TagferryError:
    """The error that an unwanted answer means.

    Returns:
        Refused for 401 and 403, NotFound for 404 (of the kind `resource`: who knows better handles 404 itself),
        Unsupported for 405 and 501, TooLarge for 413, RateLimited for 429, Unavailable for faults of the server,
        Invalid for what else it refused.
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
            return NotFound("resource", f"at registry {registry}", f"it answered {message} when asked to {task}")
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

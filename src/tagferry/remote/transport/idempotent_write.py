"""Writes whose response may be lost: their outcome is looked up before they are sent again or fail."""

from collections.abc import Awaitable, Callable

from tagferry.errors import Conflict, Invalid, NotFound, Refused, TagferryError, Unavailable, Unsupported
from tagferry.remote.transport.call import Reauthorized
from tagferry.remote.transport.response import Answer, RateLimited
from tagferry.remote.transport.retry import Retries


class WriteNotApplied(Unavailable):
    """The registry responded that it has not applied a write, and may apply it a moment later."""


class IdempotentWrite:
    """A write that leaves the registry in the same state however often it is sent.

    Args:
        retries: the retry policy.
        send: sends the write once.
        is_done: asks the registry once whether it is in the state that the write leaves. Raises Conflict if someone
            else has written what a guarded write must not replace.
        is_guarded: look at the registry before every further attempt, whatever the first one's outcome, and send
            nothing while that is not possible.
        may_be_done: whether the registry may refuse the write because its state is already the one that the write
            leaves.
    """

    def __init__(
        self,
        retries: Retries,
        send: Callable[[], Awaitable[Answer]],
        is_done: Callable[[], Awaitable[bool]],
        *,
        is_guarded: bool = False,
        may_be_done: bool = False,
    ) -> None:
        self._retries = retries
        self._send = send
        self._is_done = is_done
        self._is_guarded = is_guarded
        self._may_be_done = may_be_done or is_guarded
        self._was_sent = False
        self._is_outcome_unknown = False

    async def run(self) -> Answer | None:
        """Send the write until there is a response.

        Returns:
            The response. None if a response was lost or the write was refused, and the registry is in the state that
            the write leaves: a refusal after a lost response is that of the second write, which an immutable tag
            forbids.

        Raises:
            Conflict: someone else has written what a guarded write must not replace.
            TagferryError: as `send` raises it.
        """
        try:
            return await self._retries.run(self._attempt)
        except Unavailable:
            if self._is_outcome_unknown and await self._found_done():
                return None
            raise

    async def _attempt(self) -> Answer | None:
        if self._is_guarded and self._was_sent:
            if await self._is_done():
                return None
        elif self._is_outcome_unknown and await self._found_done():
            return None
        self._was_sent = True
        try:
            answer = await self._send()
        except Reauthorized:
            return await self._attempt()
        except Unavailable as failure:
            self._is_outcome_unknown = not isinstance(failure, RateLimited | WriteNotApplied)
            self._may_be_done = self._may_be_done or self._is_outcome_unknown
            raise
        except (Refused, Invalid, Unsupported, NotFound):
            if self._may_be_done and await self._found_done():
                return None
            raise
        return None if answer.status >= 400 and self._may_be_done and await self._found_done() else answer

    async def _found_done(self) -> bool:
        try:
            return await self._is_done()
        except Conflict:
            raise
        except TagferryError:
            return False

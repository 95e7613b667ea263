"""Writes whose answer was lost: what came of them is looked up before they are sent again, or fail."""

from collections.abc import Awaitable, Callable

from tagferry.errors import Conflict, Invalid, NotFound, Refused, TagferryError, Unavailable, Unsupported
from tagferry.remote.transport.call import Reauthorized
from tagferry.remote.transport.response import Answer, RateLimited
from tagferry.remote.transport.retry import Retries


class WriteNotApplied(Unavailable):
    """The registry answered that it has not taken a write, and may take it a moment later."""


class IdempotentWrite:
    """A write that leaves the registry in the same state however often it is sent.

    Args:
        retries: the policy by which it is sent again.
        send: sends it once.
        is_done: asks the registry, once, whether it is as the write leaves it. Raises Conflict where others have
            written what a guarded write must not replace.
        is_guarded: whether the registry is looked at before anything is sent a second time, whatever came of the first
            one, and nothing is sent while that is not possible.
        may_be_done: whether the registry may refuse the write because it is as the write leaves it already.
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
        """Send until there is an answer.

        Returns:
            The answer, or None where an earlier answer was lost, or the write refused, and the registry is found as the
            write leaves it. A refusal after a lost answer is one of the second write, which an immutable tag does not
            allow.

        Raises:
            Conflict: others have written what a guarded write must not replace.
            TagferryError: as `send` does.
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

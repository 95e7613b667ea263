"""The one error hierarchy.

```
TagferryError
├── Invalid              what the caller sent breaks a rule: names the field, the rule and the value
│   ├── InvalidName      a name, tag or digest outside its grammar
│   ├── MissingField     a mandatory field that is not there
│   ├── WrongType        a field of another type than documented
│   ├── InvalidFilter    a query filter that cannot be read
│   └── TooLarge         more than a configured limit allows
│       └── AnswerTooLarge    of a registry, more than is read
├── Unauthenticated      nobody, or somebody who cannot prove it
│   └── BadSignature     an AK/SK signature that does not verify
├── Denied               known, and not permitted
│   └── QuotaExceeded    an organization or a user has as much as it may
├── Refused              a registry does not let tagferry itself in, or not do what it was asked to do there
│   └── NotDeleted       a registry accepted a deletion, and still has what was to be deleted
├── NotFound             the resource does not exist
├── Conflict             the resource exists, differs, or is in use
├── Throttled            too much at once: try again after `retry_after` seconds
│   └── LoginThrottled   too many logins, or failed ones: this one is not accepted for now
├── Stalled              the rest of a request did not arrive in time
├── Unsupported          understood, and not done here
├── Corrupt              bytes that do not match their digest or size
└── Unavailable          another party failed for now; the same call may succeed later
    ├── StorageUnavailable    a disk of this installation is full, read-only or failing
    ├── Untrusted        no connection until an operator acts, such as for an expired certificate
    ├── DatabaseUnavailable    the database does not answer, or is damaged
    ├── Incomplete       a search could not be finished; has what it found
    ├── Expired          a deadline passed
    └── Overloaded       this server has too much to do: try again after `retry_after` seconds
```

The domain raises these and knows no HTTP; `tagferry.web.errors` and `tagferry.registry.errors` map them to
status codes, each in one table.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from tagferry.printable import printable

AnyError = TypeVar("AnyError", bound=BaseException)


class TagferryError(Exception):
    """Whatever tagferry tells a caller went wrong; its text is one sentence that says what to do next.

    Characters in it that no terminal, log or database takes as they are, which it may quote, are escaped.
    """

    def __init__(self, message: str) -> None:
        message = printable(message)
        super().__init__(message)
        self.message = message


def detached(error: AnyError) -> AnyError:
    """Return an error without the frames that it came through.

    They hold what was being worked on, such as the bytes of a manifest, for as long as the error is kept.
    """
    one: BaseException | None = error
    while one is not None and one.__traceback__ is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error


class Invalid(TagferryError):
    """A value that breaks a rule."""

    def __init__(self, field: str, rule: str, value: Any = None) -> None:
        shown = "" if value is None else f": got {_shorten(value)}"
        super().__init__(f"{field} {rule}{shown}")
        self.field = field
        self.rule = rule
        self.value = value


class InvalidName(Invalid):
    """A name, tag or digest outside its grammar."""


class MissingField(Invalid):
    """A mandatory field that is not there."""

    def __init__(self, field: str) -> None:
        super().__init__(field, "is mandatory")


class WrongType(Invalid):
    """A field of another type than documented."""


class InvalidFilter(Invalid):
    """A query filter that cannot be read."""


class TooLarge(Invalid):
    """More than a configured limit allows."""


class AnswerTooLarge(TooLarge):
    """A registry answers more than is read."""


class Unauthenticated(TagferryError):
    """Nobody, or somebody who cannot prove it."""


class BadSignature(Unauthenticated):
    """An AK/SK signature that does not verify."""


class Denied(TagferryError):
    """Known, and not permitted."""


class QuotaExceeded(Denied):
    """An organization or a user has as much as it may have."""


class Refused(TagferryError):
    """A registry does not let tagferry itself in, or not do what it was asked to do there."""


class NotDeleted(Refused):
    """A registry accepted a deletion, and still has what was to be deleted."""


class NotFound(TagferryError):
    """A resource that does not exist.

    Attributes:
        kind: `organization`, `repository`, `tag`, `blob`, ...
        name: which one.
        hint: what to do about it, if there is anything to be said.
    """

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        super().__init__(f"{kind} {_cut(name)} does not exist" + (f"; {hint}" if hint else ""))
        self.kind = kind
        self.name = name
        self.hint = hint


class Conflict(TagferryError):
    """A resource of this `kind` that exists already, differs, or is in use."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Throttled(TagferryError):
    """Too much at once.

    Attributes:
        retry_after: seconds after which a new attempt makes sense.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LoginThrottled(Throttled):
    """Too many logins or signatures, or failed ones: this one is not accepted for now.

    Its sender costs as much as one whose requests are refused because of overload, and is slowed down like that one.
    """


class Stalled(TagferryError):
    """The rest of a request did not arrive in time."""


class Unsupported(TagferryError):
    """Understood, and not done here."""


class Corrupt(TagferryError):
    """Bytes that do not match their digest or size."""


class Unavailable(TagferryError):
    """Another party failed for now; the same call may succeed later.

    Attributes:
        retry_after: seconds that the other party asked to wait, if it did.
        is_retryable: whether the same is worth trying again later.
        is_final: whether it was tried again as often as it may be, so that callers do not do so once more.
        is_optional: whether an image could be copied without what failed.
        unresponsive: the name of the registry that did not answer at all, if that is why.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        is_retryable: bool = True,
        unresponsive: str | None = None,
    ) -> None:
        super().__init__(message)
        self.unresponsive = unresponsive
        self.retry_after = retry_after
        self.is_retryable = is_retryable
        self.is_final = False
        self.is_optional = False


class StorageUnavailable(Unavailable):
    """A disk of this installation does not take, or give, what it should at present."""


class Untrusted(Unavailable):
    """A connection that cannot be made until an operator acts, such as for an expired certificate."""

    def __init__(self, message: str) -> None:
        super().__init__(message, is_retryable=False)
        self.is_final = True


class DatabaseUnavailable(Unavailable):
    """The database does not answer, or is damaged. Its text is for anybody.

    Attributes:
        detail: what an operator has to know and to do, with names that are not for everybody.
        is_damaged: whether it has to be restored.
    """

    def __init__(self, message: str, *, detail: str = "", is_damaged: bool = False) -> None:
        super().__init__(message, retry_after=None if is_damaged else 5.0)
        self.detail = detail or message
        self.is_damaged = is_damaged


class Incomplete(Unavailable):
    """A search that could not be finished.

    Attributes:
        found: what it found nevertheless.
        cause: why it could not be finished.
    """

    def __init__(self, cause: TagferryError, found: Iterable[Any] = ()) -> None:
        super().__init__(cause.message, unresponsive=cause.unresponsive if isinstance(cause, Unavailable) else None)
        self.found = tuple(found)
        self.cause = cause


class Expired(Unavailable):
    """A deadline passed."""


class Overloaded(Unavailable):
    """This server has too much to do; the same call may succeed after `retry_after` seconds."""


def _shorten(value: Any) -> str:
    return _cut(repr(value))


def _cut(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"

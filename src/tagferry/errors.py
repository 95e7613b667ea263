"""The one error hierarchy.

```
TagferryError
├── Invalid              an invalid value; has the field, the rule and the value
│   ├── InvalidName      a name, tag or digest with invalid syntax
│   ├── MissingField     a mandatory field is missing
│   ├── WrongType        a field has another type than documented
│   ├── InvalidFilter    a query filter with invalid syntax
│   ├── Misused          an argument of a command, or the file that it names, cannot be used
│   ├── Misconfigured    settings are invalid; has an error for each
│   └── TooLarge         a configured limit is exceeded
│       └── AnswerTooLarge    a registry's response exceeds a limit
├── Unauthenticated      missing or invalid credentials
│   └── BadSignature     an invalid AK/SK signature
├── Denied               authenticated but not authorized
│   └── QuotaExceeded    the quota of an organization or a user is exceeded
├── Refused              a registry denied tagferry access or refused the operation
│   └── NotDeleted       a registry accepted a deletion but did not carry it out
├── NotFound             the resource does not exist
├── Conflict             the resource exists, differs or is in use
├── Throttled            too many requests; retry after `retry_after` seconds
│   └── LoginThrottled   too many logins, or too many failed ones
├── Stalled              the rest of a request did not arrive in time
├── Unsupported          the operation is not supported
├── Corrupt              content that does not match its digest or size
│   └── WrongContent     bytes that were read do not match the expected digest or size
└── Unavailable          another system failed; a retry may succeed
    ├── StorageUnavailable    a disk of this installation is full, read-only or failing
    ├── Untrusted        no connection is possible until an operator acts, such as for an expired certificate
    ├── DatabaseUnavailable    the database does not answer, or is damaged
    ├── Incomplete       a search could not be completed; has what it found
    ├── Expired          the deadline passed
    └── Overloaded       this server is overloaded; retry after `retry_after` seconds
```

These errors are independent of HTTP. `tagferry.web.errors` and `tagferry.registry.errors` each map them to status
codes, in one table.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from tagferry.printable import printable

AnyError = TypeVar("AnyError", bound=BaseException)


class TagferryError(Exception):
    """An error that is reported to a caller. Its message is one sentence that says what happened and what to do.

    Characters that terminals, logs or databases do not accept are escaped, since messages quote input.
    """

    def __init__(self, message: str) -> None:
        message = printable(message)
        super().__init__(message)
        self.message = message


def is_by_caller(error: Exception) -> bool:
    """Return whether the caller caused an error and can correct it, so that no operator has to act."""
    kinds = (Invalid, Unauthenticated, Denied, NotFound, Conflict, Throttled, Stalled, Unsupported)
    return isinstance(error, kinds) and not isinstance(error, AnswerTooLarge)


def detached(error: AnyError) -> AnyError:
    """Return an error without its traceback.

    The frames would keep data such as the bytes of a manifest in memory for as long as the error is kept.
    """
    one: BaseException | None = error
    while one is not None and one.__traceback__ is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error


class Invalid(TagferryError):
    """A value is invalid.

    Attributes:
        field: the name of the field, parameter or setting.
        rule: the rule that the value violates, such as "must be 1 to 100".
        value: the value; None if it must not be quoted.
    """

    def __init__(self, field: str, rule: str, value: Any = None) -> None:
        shown = "" if value is None else f": got {_shorten(value)}"
        super().__init__(f"{field} {rule}{shown}")
        self.field = field
        self.rule = rule
        self.value = value


class InvalidName(Invalid):
    """A name, tag or digest has an invalid syntax."""


class MissingField(Invalid):
    """A mandatory field is missing."""

    def __init__(self, field: str) -> None:
        super().__init__(field, "is mandatory")


class WrongType(Invalid):
    """A field has another type than documented."""


class InvalidFilter(Invalid):
    """A query filter has an invalid syntax."""


class Misused(Invalid):
    """An argument of a command, or the file that it names, cannot be used."""


class Misconfigured(Invalid):
    """One or more settings are invalid. The message is that of the first one.

    Attributes:
        errors: one error for each invalid setting.
    """

    def __init__(self, errors: Iterable[Invalid]) -> None:
        self.errors = tuple(errors)
        first = self.errors[0]
        super().__init__(first.field, first.rule, first.value)


class TooLarge(Invalid):
    """A configured limit is exceeded."""


class AnswerTooLarge(TooLarge):
    """A registry's response exceeds a limit."""


class Unauthenticated(TagferryError):
    """Credentials are missing or invalid."""


class BadSignature(Unauthenticated):
    """An AK/SK signature is invalid."""


class Denied(TagferryError):
    """The caller is authenticated but not authorized."""


class QuotaExceeded(Denied):
    """The quota of an organization or a user is exceeded."""


class Refused(TagferryError):
    """A registry denied tagferry access or refused the operation."""


class NotDeleted(Refused):
    """A registry accepted a deletion but did not carry it out."""


class NotFound(TagferryError):
    """A resource does not exist.

    Attributes:
        kind: `organization`, `repository`, `tag`, `blob`, ...
        name: the name of the resource, which the message quotes; empty if `where` identifies it.
        where: what the resource is part of, such as `in cn-north-4`.
        hint: advice for the caller, if any.
    """

    def __init__(self, kind: str, name: str, hint: str = "", *, where: str = "") -> None:
        words = (kind, f'"{_cut(name)}"' if name else "", where, "does not exist")
        super().__init__(" ".join(filter(None, words)) + (f"; {hint}" if hint else ""))
        self.kind = kind
        self.name = name
        self.where = where
        self.hint = hint


class Conflict(TagferryError):
    """A resource of this `kind` exists already, differs or is in use."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Throttled(TagferryError):
    """Too many requests.

    Attributes:
        retry_after: seconds after which to retry.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LoginThrottled(Throttled):
    """Too many logins or signatures, or too many failed ones.

    Refusing them costs as much as refusing requests because of overload, so the client is slowed down in the same way.
    """


class Stalled(TagferryError):
    """The rest of a request did not arrive in time."""


class Unsupported(TagferryError):
    """The operation is not supported."""


class Corrupt(TagferryError):
    """Content does not match its digest or size."""


class WrongContent(Corrupt):
    """Bytes that were read do not match the expected digest or size."""


class Unavailable(TagferryError):
    """Another system failed; a retry may succeed.

    Attributes:
        retry_after: seconds that the other system asked to wait, if any.
        is_retryable: whether a later retry may succeed.
        is_final: whether all retries were made already, so that callers must not retry.
        is_optional: whether an image can be copied without the part that failed.
        unresponsive: the name of the registry that did not answer at all, if that is the cause.
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
    """A disk of this installation is full, read-only or failing."""


class Untrusted(Unavailable):
    """No connection is possible until an operator acts, such as for an expired certificate."""

    def __init__(self, message: str) -> None:
        super().__init__(message, is_retryable=False)
        self.is_final = True


class DatabaseUnavailable(Unavailable):
    """The database does not answer, or is damaged. The message contains no internal details.

    Attributes:
        detail: the message for operators, with internal details.
        is_damaged: whether the database must be restored.
    """

    def __init__(self, message: str, *, detail: str = "", is_damaged: bool = False) -> None:
        super().__init__(message, retry_after=None if is_damaged else 5.0)
        self.detail = detail or message
        self.is_damaged = is_damaged


class Incomplete(Unavailable):
    """A search could not be completed.

    Attributes:
        found: the results so far.
        cause: the error that ended the search.
    """

    def __init__(self, cause: TagferryError, found: Iterable[Any] = ()) -> None:
        super().__init__(cause.message, unresponsive=cause.unresponsive if isinstance(cause, Unavailable) else None)
        self.found = tuple(found)
        self.cause = cause


class Expired(Unavailable):
    """The deadline passed."""


class Overloaded(Unavailable):
    """This server is overloaded; retry after `retry_after` seconds."""


def _shorten(value: Any) -> str:
    if isinstance(value, str):
        return f'"{_cut(value)}"'
    return _cut(repr(value))


def _cut(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"

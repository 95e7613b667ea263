"""Forms: what a browser sent, and why it was refused."""

from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request

from tagferry import bounds
from tagferry.errors import Invalid, TagferryError, TooLarge, WrongType
from tagferry.metrics import BOUND_REACHED
from tagferry.web.bodies import Body
from tagferry.web.errors import code_of

_TYPE = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form that was sent, in their order."""

    fields: tuple[tuple[str, str], ...] = ()

    def text(self, name: str) -> str:
        """Return the value of a field without surrounding white space; "" if it is missing."""
        return self.raw(name).strip()

    def raw(self, name: str) -> str:
        """Return the value of a field as it was sent, such as a password; "" if it is missing."""
        return next((value for field, value in self.fields if field == name), "")

    def all(self, name: str) -> tuple[str, ...]:
        """Return the values of a field that may occur several times, such as checkboxes."""
        return tuple(value for field, value in self.fields if field == name)

    def is_checked(self, name: str) -> bool:
        """Return whether a checkbox is checked."""
        return bool(self.raw(name))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a form was refused.

    Attributes:
        status: the HTTP status of the page that shows it.
        message: one sentence.
        field: the form's field that it is about; "" if it is about none.
    """

    status: int
    message: str
    field: str = ""

    @classmethod
    def of(cls, error: TagferryError, **fields: str) -> "Failure":
        """Return the failure for an error of a use case.

        Args:
            error: the error.
            fields: the form's fields by the API's names for them, where those differ.
        """
        field = error.field if isinstance(error, Invalid) else ""
        return cls(code_of(error).status, error.message, fields.get(field, field))


async def read_form(request: Request, limit: int) -> Form:
    """Return the form in the body of a request.

    Args:
        request: the request.
        limit: the maximum size of the body in bytes.

    Raises:
        WrongType: the body is not a form.
        TooLarge: it is too large.
    """
    content = await Body(request.scope, request.receive, limit).read()
    if content and request.headers.get("content-type", "").partition(";")[0].strip().lower() != _TYPE:
        raise WrongType("body", f"must be a form ({_TYPE})")
    try:
        fields = parse_qsl(content.decode(), keep_blank_values=True, errors="strict", max_num_fields=bounds.FORM_FIELDS)
    except UnicodeDecodeError:
        raise WrongType("body", "must be a form in UTF-8") from None
    except ValueError:
        BOUND_REACHED.labels(bound="form_fields").inc()
        raise TooLarge("body", f"must have at most {bounds.FORM_FIELDS} fields") from None
    return Form(tuple(fields))

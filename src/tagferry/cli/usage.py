"""Wrong usage in one sentence, with options and arguments as they are typed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

from tagferry.cli.server_error import ServerError
from tagferry.errors import Invalid, Misused, TagferryError

_BAD_REQUEST = 400
LIST_REGIONS = "list the regions with: tagferry region list"
LIST_ORGANIZATIONS = "list the organizations of a region with: tagferry org list REGION"
LIST_USERS = "list the users with: tagferry user list"
LIST_REQUESTS = "list the requests of jobs with: tagferry job list --json"


def is_as_typed(field: str) -> bool:
    """Return whether a field is an option or an argument of a command, such as `--to` or `ORG/REPO`."""
    return field.startswith("-") or (field.isupper() and not field.startswith("TAGFERRY_"))


def describe(error: TagferryError) -> str:
    """Return the message of an error, with a colon after an option."""
    if isinstance(error, Invalid) and error.field.startswith("-"):
        return f"{error.field}: {error.message.removeprefix(error.field).lstrip()}"
    return error.message


def suggestion(word: str, known: Collection[str]) -> str:
    """Return a hint at the known word that is closest to this one; "" if none is close."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def require_choice(option: str, given: str, choices: Collection[str], *, rule: str = "must be one of") -> None:
    """Raise Invalid, with a suggestion, if a value is none of the choices."""
    if given not in choices:
        hint = suggestion(given, choices)
        raise Invalid(option, f'{rule} {", ".join(choices)}: got "{given[:120]}"{hint}')


def spelling(names: Sequence[str], arguments: Sequence[str], *, otherwise: str = "") -> str:
    """Return the spelling of an option that was typed.

    Args:
        names: the spellings of the option.
        arguments: what was typed.
        otherwise: what to return if none was typed; by default the longest.
    """
    for argument in arguments:
        if argument == "--":
            break
        for name in names:
            is_joined = len(name) == 2 and argument.startswith(name)
            if argument == name or argument.startswith(f"{name}=") or is_joined:
                return name
    return otherwise or max(names, key=len)


@contextmanager
def naming(names: Mapping[str, str], hints: Mapping[str, str] = MappingProxyType({})) -> Iterator[None]:
    """Name the fields of errors as the user typed them, also those of a server.

    Args:
        names: the option or argument of each field, by the field's name.
        hints: what to do about an error of a server, by the field's name.
    """
    try:
        yield
    except ServerError as error:
        field = next((field for field in names if error.text.startswith(f"{field} ")), None)
        if error.status != _BAD_REQUEST or field is None:
            raise
        hint = f"; {hints[field]}" if field in hints else ""
        raise Misused(names[field], f"{error.text.removeprefix(field).lstrip()}{hint}") from None
    except Invalid as error:
        if error.field not in names:
            raise
        raise Misused(names[error.field], error.rule, error.value) from None

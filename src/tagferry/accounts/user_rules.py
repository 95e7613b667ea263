"""The rules for names, passwords and descriptions of users."""

import re
import secrets

from tagferry import bounds
from tagferry.errors import Invalid

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
ID = re.compile(r"[A-Za-z0-9]{1,64}")

_PASSWORD_MINIMUM = 8
_DESCRIPTION_LIMIT = 255


def random_password() -> str:
    """Return a random password."""
    return secrets.token_urlsafe(18)


def is_user_id(text: str) -> bool:
    """Return whether a text can be the id of a user; others, such as those with NUL, cannot be looked up."""
    return ID.fullmatch(text) is not None


def check_name(field: str, name: str) -> None:
    """Raise Invalid, with the field, if the name of a user or of a domain breaks a rule."""
    if not NAME.fullmatch(name):
        raise Invalid(field, "must be 1 to 64 letters, digits, '.', '_' and '-'", name)


def check_password(password: str) -> str:
    """Return a password; raise Invalid if it is too short or too long."""
    if len(password) < _PASSWORD_MINIMUM:
        raise Invalid("password", f"must be at least {_PASSWORD_MINIMUM} characters long")
    if len(password) > bounds.PASSWORD_CHARACTERS:
        raise Invalid("password", f"must be at most {bounds.PASSWORD_CHARACTERS} characters long")
    return password


def check_description(description: str) -> None:
    """Raise Invalid if a description of a user or a key breaks a rule."""
    if len(description) > _DESCRIPTION_LIMIT or "\0" in description:
        raise Invalid("description", f"must be at most {_DESCRIPTION_LIMIT} characters, none of them NUL")

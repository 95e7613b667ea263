"""The URL of the database: which ones tagferry can use."""

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from tagferry.errors import Invalid

URL_RULE = "must be a SQLAlchemy URL, as sqlite:///FILE or postgresql+psycopg://…"
_DRIVERS = frozenset({"sqlite", "sqlite+aiosqlite", "postgresql", "postgresql+psycopg", "postgresql+psycopg_async"})
"""How URLs may name SQLite and PostgreSQL. Earlier versions used aiosqlite, and existing configurations name it."""


def parse_url(text: str) -> URL:
    """Parse `database_url`; raises Invalid, which quotes the driver only, since a URL may contain a password."""
    try:
        url = make_url(text)
    except ArgumentError:
        raise Invalid("database_url", URL_RULE) from None
    except ValueError:
        # SQLAlchemy's message quotes the alleged port, which can be part of the password.
        raise Invalid("database_url", f"{URL_RULE} (its port is not a number)") from None
    if url.drivername not in _DRIVERS:
        raise Invalid("database_url", URL_RULE, url.drivername)
    return url

"""Types of text in request fields."""

from typing import Annotated

from pydantic import AfterValidator


def _encodable(text: str) -> str:
    """Reject a lone surrogate, which JSON can contain and UTF-8 cannot encode."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must be text that UTF-8 can encode")
    return text


def _storable(text: str) -> str:
    """Reject NUL, which PostgreSQL's text cannot contain."""
    if "\0" in text:
        raise ValueError("must be text without NUL")
    return text


Text = Annotated[str, AfterValidator(_encodable)]
"""Text that UTF-8 can encode."""
StoredText = Annotated[Text, AfterValidator(_storable)]
"""Text that a database can store and search for."""

"""The text that requests may have in their fields."""

from typing import Annotated

from pydantic import AfterValidator


def _encodable(text: str) -> str:
    """JSON can name half a character (a lone surrogate), which no text holds."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must be text that UTF-8 can hold")
    return text


def _storable(text: str) -> str:
    """PostgreSQL's text holds no NUL."""
    if "\0" in text:
        raise ValueError("must be text without NUL")
    return text


Text = Annotated[str, AfterValidator(_encodable)]
"""Text that can be written as UTF-8."""
StoredText = Annotated[Text, AfterValidator(_storable)]
"""Text that a database can be given, to keep it or to look for it."""

"""What the bodies of IAM's requests and answers have in common."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def _utf8(text: str) -> str:
    """JSON can name half a character (a lone surrogate), which no text holds."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must be text that UTF-8 can hold")
    return text


Text = Annotated[str, AfterValidator(_utf8)]


class Strict(BaseModel):
    """Takes every field in its documented type only."""

    model_config = ConfigDict(strict=True)


def links() -> dict[str, str | None]:
    """The links of a list that has one page, or of what has none."""
    return {"next": None, "previous": None, "self": ""}

"""What the bodies of IAM's requests and answers have in common."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Takes every field in its documented type only."""

    model_config = ConfigDict(strict=True)


def links() -> dict[str, str | None]:
    """The links of a list that has one page, or of what has none."""
    return {"next": None, "previous": None, "self": ""}

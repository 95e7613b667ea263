"""Parts shared by the bodies of IAM's requests and responses."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A model whose fields accept only their documented types."""

    model_config = ConfigDict(strict=True)


def links() -> dict[str, str | None]:
    """Return the `links` of a list with one page, or of a resource without links."""
    return {"next": None, "previous": None, "self": ""}

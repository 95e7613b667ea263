"""Parts shared by the bodies of IAM's requests and responses."""

from pydantic import BaseModel, ConfigDict, Field

from tagferry.web.response_models import ResponseModel


class Strict(BaseModel):
    """A model whose fields accept only their documented types."""

    model_config = ConfigDict(strict=True)


class SelfLink(ResponseModel):
    """The links of a resource, which has none."""

    self_: str = Field("", serialization_alias="self")


class Links(ResponseModel):
    """The links of a list with one page."""

    next: str | None = None
    previous: str | None = None
    self_: str = Field("", serialization_alias="self")

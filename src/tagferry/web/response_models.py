"""The base classes of response models: the only place that names the fields of a response.

A model declares its fields once, in the order in which they are sent. FastAPI builds it from the object that it shows,
by the names of that object's attributes, and lets it serialize itself. A field that the API calls otherwise has a
`serialization_alias`; one whose attribute has another name or place, a `validation_alias`. What has to be computed is
computed in the model's `of`.
"""

from datetime import datetime
from typing import Annotated

from pydantic import AliasGenerator, BaseModel, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

from tagferry.web.formats import date


class ResponseModel(BaseModel):
    """A response, or a part of one."""

    model_config = ConfigDict(from_attributes=True, validate_by_name=True)


class CamelCaseModel(ResponseModel):
    """A response whose fields are sent in camel case."""

    model_config = ConfigDict(alias_generator=AliasGenerator(serialization_alias=to_camel))


Time = Annotated[datetime, PlainSerializer(date, return_type=str)]
"""A time in SWR's format."""
OptionalTime = Annotated[datetime | None, PlainSerializer(date, return_type=str, when_used="unless-none")]
"""A time in SWR's format; null if there is none."""

"""Lists in request bodies."""

from typing import Annotated, TypeVar

from pydantic import Field

Item = TypeVar("Item")

Items = Annotated[list[Item], Field(fail_fast=True)]
"""A list that is validated up to its first invalid element, since collecting many errors is expensive."""

"""The lists that requests may have in their bodies."""

from typing import Annotated, TypeVar

from pydantic import Field

Item = TypeVar("Item")

Items = Annotated[list[Item], Field(fail_fast=True)]
"""A list that is read up to its first wrong element: an error for each would take longer than all that is right."""

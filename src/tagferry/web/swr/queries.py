"""Query parameters of the list operations: SWR's `filter=name::value|…`, paging, and `Content-Range`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tagferry.errors import Invalid, InvalidFilter

DEFAULT_LIMIT = 100
MAXIMUM_LIMIT = 1000
_LARGEST = 9_999_999_999


def parse_filter(text: str | None) -> dict[str, str]:
    """Parse `name::value|name::value`. The last value of a name counts.

    Raises:
        InvalidFilter: a part has no `::` or no name.
    """
    if not text:
        return {}
    found = {}
    for part in text.split("|"):
        if not part:
            continue
        name, separator, value = part.partition("::")
        if not separator or not name:
            raise InvalidFilter("filter", "must have the form name::value, joined by '|'", text)
        found[name] = value
    return found


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list.

    Attributes:
        limit: entries on the page, 1 to 1,000.
        offset: entries to skip.
    """

    limit: int
    offset: int

    @classmethod
    def parse(
        cls, parameters: Mapping[str, str | None], *, default: int = DEFAULT_LIMIT, maximum: int = MAXIMUM_LIMIT
    ) -> "Page":
        """Parse `limit` and `offset`; raises Invalid."""
        limit = parse_number(parameters, "limit", default=default, least=1, most=maximum)
        return cls(limit=limit, offset=parse_number(parameters, "offset", default=0))

    def content_range(self, *, count: int, total: int) -> dict[str, str]:
        """Return the header with the position of this page, `offset-count/total`."""
        return {"Content-Range": f"{self.offset}-{count}/{total}"}


def is_descending(parameters: Mapping[str, str | None], name: str, *, default: bool) -> bool:
    """Parse a sort direction, `asc` or `desc`; raises Invalid."""
    value = parameters.get(name)
    if not value:
        return default
    if value not in ("asc", "desc"):
        raise Invalid(name, "must be asc or desc", value)
    return value == "desc"


def parse_flag(parameters: Mapping[str, str | None], name: str) -> bool | None:
    """Parse `true` or `false` in any case, as the SDKs send them; None if missing. Raises Invalid."""
    value = parameters.get(name)
    if not value:
        return None
    if value.lower() not in ("true", "false"):
        raise Invalid(name, "must be true or false", value)
    return value.lower() == "true"


def parse_number(
    parameters: Mapping[str, str | None], name: str, *, default: int, least: int = 0, most: int = _LARGEST
) -> int:
    """Parse a whole number from `least` to `most`; raises Invalid."""
    value = parameters.get(name)
    if value is None or value == "":
        return default
    number = int(value) if re.fullmatch(r"[0-9]{1,10}", value) else -1
    if not least <= number <= most:
        raise Invalid(name, f"must be a whole number from {least} to {most}", value)
    return number

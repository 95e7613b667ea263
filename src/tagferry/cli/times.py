"""Times: those that options of commands take (absolute, an age, or a number of seconds), and those that are shown."""

from datetime import UTC, datetime, timedelta
from math import inf
from re import fullmatch

from tagferry.errors import Invalid
from tagferry.printable import printable

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def show_time(moment: datetime | str | None) -> str:
    """Return a time as all commands show it: in UTC and whole seconds, in a form that `parse_time` accepts.

    Args:
        moment: the time, also in ISO 8601; nothing is shown for None and "".
    """
    try:
        parsed = datetime.fromisoformat(moment) if isinstance(moment, str) and moment else moment
        if not isinstance(parsed, datetime):
            return ""
        parsed = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
        return parsed.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        # A server of another version.
        return printable(str(moment))


def parse_time(option: str, given: str) -> str:
    """Return a time in ISO 8601 with its zone, given as such or as an age; empty if none is given.

    A time without a zone is the local one, as in other programs of the command line.
    """
    if not given:
        return ""
    if match := fullmatch(r"([0-9]{1,6})([smhdw])", given):
        try:
            moment = datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        except OverflowError:
            raise Invalid(option, "must be an age of fewer years", given) from None
        return moment.isoformat()
    try:
        return datetime.fromisoformat(given).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        raise Invalid(option, "must be an age such as 2h or 7d, or a time such as 2024-05-06T07:08", given) from None


def parse_seconds(option: str, given: str) -> float:
    """Parse a positive number of seconds; raises Invalid."""
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < inf:
        raise Invalid(option, "must be a number of seconds, more than 0", given)
    return seconds

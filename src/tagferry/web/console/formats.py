"""Sizes, times and durations as pages show them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from gettext import NullTranslations

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def size(count: float) -> str:
    """Return a number of bytes in powers of 1000, as docker shows sizes: `112.3 MB`."""
    return _scaled(count, 1000, _DECIMAL)


def binary_size(count: float) -> str:
    """Return a number of bytes in powers of 1024: `107.1 MiB`."""
    return _scaled(count, 1024, _BINARY)


def exact(time: datetime) -> str:
    """Return a time in UTC to the second: `2026-11-28 19:24:03 UTC`."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def machine_time(time: datetime) -> str:
    """Return a time for the attribute `datetime` of an element `time`."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def duration(seconds: float, gettext: Callable[[str], str] = str) -> str:
    """Return a duration with its two largest units: `42 s`, `3 min 5 s`, `2 h 4 min`, `3 d 1 h`.

    Args:
        seconds: the duration; a negative one counts as 0.
        gettext: translates the units.
    """
    if seconds < 10:
        return gettext("%(n)s s") % {"n": f"{max(seconds, 0.0):.1f}"}
    whole = round(seconds)
    days, hours = divmod(whole // _HOUR, 24)
    parts = (
        (days, gettext("%(n)s d")),
        (hours, gettext("%(n)s h")),
        (whole % _HOUR // _MINUTE, gettext("%(n)s min")),
        (whole % _MINUTE, gettext("%(n)s s")),
    )
    first = next(at for at, (number, _) in enumerate(parts) if number)
    return " ".join(text % {"n": number} for number, text in parts[first : first + 2] if number)


class RelativeTimes:
    """Times relative to now, in words of a language: `19 minutes ago`.

    Args:
        texts: the translations of the language.
    """

    def __init__(self, texts: NullTranslations) -> None:
        self._texts = texts

    def __call__(self, time: datetime, now: datetime | None = None) -> str:
        """Return a time relative to `now`, by default the current time."""
        passed = (now or datetime.now(UTC)) - time
        if passed < timedelta(0):
            return self._later(-passed)
        gettext, ngettext = self._texts.gettext, self._texts.ngettext
        number, unit = _largest(passed)
        if unit == _DAY:
            return ngettext("%(n)d day ago", "%(n)d days ago", number) % {"n": number}
        if unit == _HOUR:
            return ngettext("%(n)d hour ago", "%(n)d hours ago", number) % {"n": number}
        if unit == _MINUTE:
            return ngettext("%(n)d minute ago", "%(n)d minutes ago", number) % {"n": number}
        return gettext("just now")

    def _later(self, wait: timedelta) -> str:
        gettext, ngettext = self._texts.gettext, self._texts.ngettext
        number, unit = _largest(wait)
        if unit == _DAY:
            return ngettext("in %(n)d day", "in %(n)d days", number) % {"n": number}
        if unit == _HOUR:
            return ngettext("in %(n)d hour", "in %(n)d hours", number) % {"n": number}
        if unit == _MINUTE:
            return ngettext("in %(n)d minute", "in %(n)d minutes", number) % {"n": number}
        return gettext("in a moment")


def _largest(time: timedelta) -> tuple[int, int]:
    seconds = int(time.total_seconds())
    unit = next((unit for unit in (_DAY, _HOUR, _MINUTE) if seconds >= unit), 1)
    return seconds // unit, unit


def _scaled(count: float, base: int, units: tuple[str, ...]) -> str:
    for unit in units:
        # A value that would be rounded to the base is shown in the next unit.
        if count < base - 0.05 or unit == units[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= base
    raise AssertionError

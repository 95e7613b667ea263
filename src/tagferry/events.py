"""Loggers for modules that every command imports. The logging library is imported with the first event."""

import time
from typing import Any

_INTERVAL_SECONDS = 60.0

_logged: dict[tuple[str, str], tuple[float, int]] = {}
"""The time of the last log line of each module and event, and the number of occurrences since."""


class Events:
    """A logger.

    Args:
        name: the module's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, event: str, **fields: Any) -> None:
        """Log an event."""
        self._logger().info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log an event that needs an operator's attention."""
        self._logger().warning(event, **fields)

    def _logger(self) -> Any:
        import structlog

        return structlog.get_logger(self._name)


class SparseEvents:
    """A rate-limited logger for events that clients can cause at any rate: one line per event and interval.

    Args:
        name: the module's name.
        seconds: the interval.
    """

    def __init__(self, name: str, *, seconds: float = _INTERVAL_SECONDS) -> None:
        self._name = name
        self._seconds = seconds

    def warning(self, event: str, **fields: Any) -> None:
        """Log an event that needs an operator's attention, unless the same event was logged within the interval.

        Args:
            event: a constant phrase.
            fields: the fields of this occurrence. `times`, the number of occurrences since the last line, is added.
        """
        now = time.monotonic()
        key = (self._name, event)
        logged_at, times = _logged.get(key, (now - self._seconds, 0))
        times += 1
        if now - logged_at < self._seconds:
            _logged[key] = (logged_at, times)
            return
        _logged[key] = (now, 0)
        Events(self._name).warning(event, times=times, **fields)

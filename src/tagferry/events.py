"""Log events of modules that every command loads; the logging library is loaded with the first event."""

import time
from typing import Any

_INTERVAL_SECONDS = 60.0


class Events:
    """A logger.

    Args:
        name: the module's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, event: str, **fields: Any) -> None:
        """Log what happened."""
        self._logger().info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log what an operator should look at."""
        self._logger().warning(event, **fields)

    def _logger(self) -> Any:
        import structlog

        return structlog.get_logger(self._name)


class SparseEvents:
    """A logger for events that clients can cause at any rate: one line per event and interval, with a count.

    Args:
        name: the module's name.
        seconds: the interval.
    """

    def __init__(self, name: str, *, seconds: float = _INTERVAL_SECONDS) -> None:
        self._events = Events(name)
        self._seconds = seconds
        self._logged_at: dict[str, float] = {}
        self._unlogged: dict[str, int] = {}

    def warning(self, event: str, **fields: Any) -> None:
        """Log what an operator should look at, unless the same event was logged within the interval.

        Args:
            event: one of a fixed set of phrases.
            fields: of this occurrence; `times` is added, how often it happened since the last line.
        """
        now = time.monotonic()
        times = self._unlogged.pop(event, 0) + 1
        if now - self._logged_at.get(event, now - self._seconds) < self._seconds:
            self._unlogged[event] = times
            return
        self._logged_at[event] = now
        self._events.warning(event, times=times, **fields)

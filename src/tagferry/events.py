"""Log events of modules that every command loads; the logging library is loaded with the first event."""

import time
from typing import Any

_INTERVAL_SECONDS = 60.0

_logged: dict[tuple[str, str], tuple[float, int]] = {}
"""When an event of a module was last logged, and how often it has happened since."""


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
        self._name = name
        self._seconds = seconds

    def warning(self, event: str, **fields: Any) -> None:
        """Log what an operator should look at, unless the same event was logged within the interval.

        Args:
            event: one of a fixed set of phrases.
            fields: of this occurrence; `times` is added, how often it happened since the last line.
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

"""Loggers for modules that every command imports. The logging library is imported with the first event."""

import sys
import time
from collections.abc import Callable, Hashable
from functools import partial
from threading import Lock
from typing import Any, Literal

_INTERVAL_SECONDS = 60.0
_KEYS = 1000
"""Different keys of one logger that are distinguished in an interval; further ones count together."""

_Level = Literal["debug", "info", "warning", "error", "exception"]


class _Interval:
    """An interval in which an event occurred.

    Attributes:
        began_at: when, in seconds of the monotonic clock.
        seconds: its length.
        logged: the number of lines in it.
        left_out: the number of occurrences without a line.
        report: reports this number.
    """

    def __init__(self, began_at: float, seconds: float, *, logged: int = 0) -> None:
        self.began_at = began_at
        self.seconds = seconds
        self.logged = logged
        self.left_out = 0
        self.report: Callable[[int], None] | None = None


_logged: dict[Hashable, _Interval] = {}
"""The current interval of each event that occurred recently."""
_lock = Lock()


def occurrences(key: Hashable, *, seconds: float, lines: int = 1, report: Callable[[int], None]) -> int:
    """Count an occurrence of an event; return 0 if it must have no line of its own.

    Args:
        key: identifies the event.
        seconds: the length of the interval.
        lines: the number of lines that the event may have in an interval.
        report: reports the number of occurrences without a line, at the end of the interval.

    Returns:
        The number of occurrences since the last line, including this one.
    """
    now = time.monotonic()
    with _lock:
        interval = _logged.get(key)
        left_out = 0
        if interval is None or now - interval.began_at >= interval.seconds:
            left_out = interval.left_out if interval is not None else 0
            interval = _logged[key] = _Interval(now, seconds)
        if interval.logged < lines:
            interval.logged += 1
            return left_out + 1
        interval.left_out += 1
        interval.report = report
        return 0


def report_repeated(*, at_once: bool = False) -> None:
    """Report the occurrences that had no line, of all events whose interval has ended; `at_once`, of all events."""
    now, due = time.monotonic(), []
    with _lock:
        for key, interval in list(_logged.items()):
            if not at_once and now - interval.began_at < interval.seconds:
                continue
            del _logged[key]
            if interval.left_out and interval.report is not None:
                due.append((interval.report, interval.left_out))
                # Its line counts as the first of the next interval.
                _logged[key] = _Interval(now, interval.seconds, logged=1)
    for report, times in due:
        report(times)


def kind_of(error: BaseException) -> Hashable:
    """Return a key for errors of the same type that were raised by the same line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace is not None else None
    return type(error).__name__, where


class Events:
    """A logger.

    Args:
        name: the module's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, event: str, **fields: Any) -> None:
        """Log an event."""
        self.log("info", event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log an event that needs an operator's attention."""
        self.log("warning", event, **fields)

    def log(self, level: _Level, event: str, **fields: Any) -> None:
        """Log an event at a level."""
        import structlog

        if not structlog.is_configured():
            # The standard output of a command is for its results.
            structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        getattr(structlog.get_logger(self._name), level)(event, **fields)


class SparseEvents:
    """A rate-limited logger for events that clients can cause at any rate: one line per event and interval.

    At the end of an interval another line has the number of occurrences that had none (`report_repeated`).

    Args:
        name: the module's name.
        seconds: the interval.
    """

    def __init__(self, name: str, *, seconds: float = _INTERVAL_SECONDS) -> None:
        self._name = name
        self._seconds = seconds
        self._keys: dict[Hashable, float] = {}

    def warning(self, event: str, *, key: Hashable = None, **fields: Any) -> None:
        """Log an event that needs an operator's attention, unless the same event was logged within the interval.

        Args:
            event: a constant phrase.
            key: distinguishes events with the same phrase, such as those of different regions.
            fields: the fields of this occurrence. `times`, the number of occurrences since the last line, is added.
        """
        self._log("warning", event, key, fields)

    def error(self, event: str, *, key: Hashable = None, **fields: Any) -> None:
        """Log a failure of this server; as `warning`."""
        self._log("error", event, key, fields)

    def info(self, event: str, *, key: Hashable = None, **fields: Any) -> None:
        """Log an event that needs no attention; as `warning`."""
        self._log("info", event, key, fields)

    def _log(self, level: _Level, event: str, key: Hashable, fields: dict[str, Any]) -> None:
        key = self._distinguished(key)
        report = partial(self._report, level, event, {name: one for name, one in fields.items() if name != "exc_info"})
        if times := occurrences((self._name, event, key), seconds=self._seconds, report=report):
            Events(self._name).log(level, event, times=times, **fields)

    def _distinguished(self, key: Hashable) -> Hashable:
        """Return the key, or None if there are too many different ones; each is forgotten after an interval."""
        if key is None:
            return None
        now = time.monotonic()
        with _lock:
            # They are in the order of their times.
            while self._keys and now - self._keys[oldest := next(iter(self._keys))] >= self._seconds:
                del self._keys[oldest]
            if key not in self._keys:
                if len(self._keys) >= _KEYS:
                    return None
                self._keys[key] = now
        return key

    def _report(self, level: _Level, event: str, fields: dict[str, Any], times: int) -> None:
        Events(self._name).log(level, event, times=times, **fields)

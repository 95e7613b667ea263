"""Show the copies of `tagferry copy`: a line for each result, and on a terminal a line with the progress."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO

from tagferry.cli.lines import PROGRESS_SECONDS, write_json, write_line
from tagferry.direct.results import CopyResult
from tagferry.direct.runner import DirectCopier
from tagferry.direct.sizes import format_size

_CLEAR = "\r\x1b[2K"
_LABELS = {
    "copied": "copied",
    "up_to_date": "up to date",
    "existed": "existed",
    "failed": "failed",
    "to_copy": "to copy",
}


class CopyDisplay:
    """Prints results to standard output; progress, reasons and errors to standard error.

    An output that cannot be written, such as a full disk or a pipe whose reader has ended, does not end the copies.

    Args:
        as_json: whether standard output gets only JSON, which `results` prints.
        clock: seconds, monotonic.

    Attributes:
        is_incomplete: whether results could not be printed, and their reader does not know it.
    """

    def __init__(self, *, as_json: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._as_json = as_json
        self._clock = clock
        self._is_terminal = sys.stderr.isatty()
        self._line = ""
        self._started_at = self._shown_at = clock()
        self.is_incomplete = False

    def result(self, result: CopyResult) -> None:
        """Print the result of one tag."""
        self._clear()
        if not result.is_ok:
            label = "" if result.status == "failed" else f"{_LABELS[result.status]}: "
            self.error(f"{result.target}: {label}{result.reason}")
            return
        if not self._as_json:
            size = f"  {format_size(result.size)}" if result.status in ("copied", "to_copy") else ""
            self._print(sys.stdout, f"{_LABELS[result.status]:<10}  {result.target}  {result.digest or ''}{size}")
        if result.reason:
            self._print(sys.stderr, f"warning: {result.target}: {result.reason}")

    def progress(self, copier: DirectCopier) -> None:
        """Show what was copied so far: always on a terminal, and every ten seconds in a line of its own elsewhere."""
        now = self._clock()
        if not self._is_terminal and now - self._shown_at < PROGRESS_SECONDS:
            return
        self._shown_at = now
        transfers = {id(one): one for copy in copier.copies for one in copy.known_transfers}.values()
        total, done = sum(one.size for one in transfers), sum(one.done for one in transfers)
        rate = sum(one.read for one in transfers) / max(0.001, now - self._started_at)
        line = (
            f"{len(copier.results)} of {copier.found} images, {format_size(done)} of {format_size(total)}, "
            f"{format_size(rate)}/s"
        )
        if self._is_terminal:
            self._line = line
            self._write(sys.stderr, partial(sys.stderr.write, f"{_CLEAR}{line}"))
        else:
            self._print(sys.stderr, f"progress: {line}")

    def error(self, message: str) -> None:
        """Print an error."""
        self._clear()
        self._print(sys.stderr, f"error: {message}")

    def ignored(self, keys: Sequence[str]) -> None:
        """Report the keys of a list that have no effect."""
        if keys:
            self._print(sys.stderr, f"warning: without effect on a single run: {', '.join(keys)}")

    def results(self, results: Sequence[CopyResult]) -> None:
        """Print all results as JSON, if that is wanted."""
        if self._as_json:
            self._write(sys.stdout, partial(write_json, [result.to_json() for result in results]))

    def summary(self, results: Sequence[CopyResult]) -> None:
        """Print how many tags were copied, if there were several."""
        self._clear()
        if len(results) < 2 or self._as_json:
            return
        counted = {label: sum(one.status == status for one in results) for status, label in _LABELS.items()}
        size = format_size(sum(one.size for one in results))
        parts = ", ".join(f"{count} {label}" for label, count in counted.items() if count)
        self._print(sys.stderr, f"{parts}; {size} transferred" if counted["copied"] else parts)

    def _clear(self) -> None:
        if self._line:
            self._write(sys.stderr, partial(sys.stderr.write, _CLEAR))
            self._line = ""

    def _print(self, stream: IO[str], line: str) -> None:
        self._write(stream, partial(write_line, stream, line))

    def _write(self, stream: IO[str], write: Callable[[], object]) -> None:
        try:
            write()
            stream.flush()
        except OSError as error:
            # What is left in its buffer would fail again, also when Python exits.
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), stream.fileno())
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                self.is_incomplete = True
                self.error(f"cannot write the results to standard output: {error.strerror}")

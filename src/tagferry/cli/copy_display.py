"""Show the copies of `tagferry copy`: a line for each result, and on a terminal a line with the progress."""

import sys
import time
from collections.abc import Sequence

from tagferry.cli.lines import write_line
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

    Args:
        as_json: whether standard output gets only JSON, which the caller prints.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._is_terminal = sys.stderr.isatty()
        self._line = ""
        self._started_at = time.monotonic()

    def result(self, result: CopyResult) -> None:
        """Print the result of one tag."""
        self._clear()
        if not result.is_ok:
            label = "" if result.status == "failed" else f"{_LABELS[result.status]}: "
            self.error(f"{result.target}: {label}{result.reason}")
            return
        if not self._as_json:
            size = f"  {format_size(result.size)}" if result.status in ("copied", "to_copy") else ""
            write_line(sys.stdout, f"{_LABELS[result.status]:<10}  {result.target}  {result.digest or ''}{size}")
        if result.reason:
            write_line(sys.stderr, f"warning: {result.target}: {result.reason}")

    def progress(self, copier: DirectCopier) -> None:
        """Show what was copied so far, on a terminal only."""
        if not self._is_terminal:
            return
        transfers = {id(one): one for copy in copier.copies for one in copy.transfers}.values()
        total, done = sum(one.size for one in transfers), sum(one.done for one in transfers)
        rate = sum(one.read for one in transfers) / max(0.001, time.monotonic() - self._started_at)
        self._line = (
            f"{len(copier.results)} of {copier.found} images, {format_size(done)} of {format_size(total)}, "
            f"{format_size(rate)}/s"
        )
        sys.stderr.write(f"{_CLEAR}{self._line}")
        sys.stderr.flush()

    def error(self, message: str) -> None:
        """Print an error."""
        self._clear()
        write_line(sys.stderr, f"error: {message}")

    def ignored(self, keys: Sequence[str]) -> None:
        """Report the keys of a list that have no effect."""
        if keys:
            write_line(sys.stderr, f"warning: without effect on a single run: {', '.join(keys)}")

    def summary(self, results: Sequence[CopyResult]) -> None:
        """Print how many tags were copied, if there were several."""
        self._clear()
        if len(results) < 2 or self._as_json:
            return
        counted = {label: sum(one.status == status for one in results) for status, label in _LABELS.items()}
        size = format_size(sum(one.size for one in results))
        parts = ", ".join(f"{count} {label}" for label, count in counted.items() if count)
        write_line(sys.stderr, f"{parts}; {size} transferred" if counted["copied"] else parts)

    def _clear(self) -> None:
        if self._line:
            sys.stderr.write(_CLEAR)
            self._line = ""

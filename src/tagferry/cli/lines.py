"""Print lines of plain text."""

import json
import sys
from collections.abc import Mapping
from typing import IO, Any

from tagferry.printable import printable

PROGRESS_SECONDS = 10.0
"""The interval of lines with the progress of copies, where there is no terminal."""


def write_line(stream: IO[str], line: str) -> None:
    """Print a line at once; characters that a terminal does not print are escaped."""
    stream.write(f"{printable(line)}\n")
    stream.flush()


def write_json(document: Any) -> None:
    """Print JSON to standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def write_rewritten(stream: IO[str], image: str, rewritten: Mapping[str, Any] | None) -> None:
    """Print the digests that change at the target, and what is not copied. Print nothing for a bit-identical image."""
    if rewritten is None:
        return
    for source, target in rewritten["digests"].items():
        write_line(stream, f"{image}  {source} becomes {target}")
    for name in rewritten["leftBehind"]:
        write_line(stream, f"{image}  {name} is not copied")

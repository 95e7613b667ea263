"""The consoles that commands print to: of the terminal's width on a terminal, and with whole lines anywhere else."""

import sys

from rich.console import Console

_WIDTH = 32_000
"""More characters than any line of a table has."""
_HEIGHT = 25


def console_on(*, stderr: bool = False) -> Console:
    """Return a console whose lines are neither cut nor wrapped unless a terminal shows them."""
    stream = sys.stderr if stderr else sys.stdout
    if stream is not None and stream.isatty():
        return Console(stderr=stderr, highlight=False, emoji=False)
    return Console(stderr=stderr, highlight=False, emoji=False, width=_WIDTH, height=_HEIGHT)


out = console_on()
"""The console for a command's results."""
err = console_on(stderr=True)
"""The console for progress and errors."""

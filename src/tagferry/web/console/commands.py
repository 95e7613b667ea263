"""Commands that do the same as a page."""

import shlex
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """A command that does the same as a page, to copy.

    Attributes:
        label: what it is for, or the program, such as `CLI` or `docker`; templates translate it.
    """

    label: str
    text: str

    @classmethod
    def of(cls, label: str, *arguments: str) -> "Command":
        """Return a command with its arguments quoted for a shell."""
        return cls(label, shlex.join(arguments))

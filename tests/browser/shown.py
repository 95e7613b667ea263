"""Pages that are opened in all variants."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """A page that is looked at.

    Attributes:
        name: of its pictures.
        path: its address.
        status: the status that it answers with.
    """

    name: str
    path: str
    status: int = 200

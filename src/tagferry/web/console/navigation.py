"""The side navigation."""

from collections.abc import Collection
from dataclasses import dataclass

from tagferry.accounts.model import Caller
from tagferry.web.console.paths import HOME
from tagferry.web.console.translation import translatable


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the navigation.

    Attributes:
        path: the page that it opens.
        label: its text, which templates translate.
        icon: the name of an icon in `icons.txt`.
        for_administrators: whether only administrators may open the page.
        for_writers: whether the page is only for callers who may push to any repository.
    """

    path: str
    label: str
    icon: str
    for_administrators: bool = False
    for_writers: bool = False

    def contains(self, path: str) -> bool:
        """Return whether a path is this page, or a page below it."""
        return path == self.path or (self.path != HOME and path.startswith(f"{self.path}/"))


_ENTRIES = (
    Entry(HOME, translatable("Overview"), "gauge"),
    Entry("/console/regions", translatable("Regions"), "globe"),
    Entry("/console/images", translatable("Images"), "package"),
    Entry("/console/synchronize", translatable("Synchronize"), "arrow-right-left", for_writers=True),
    Entry("/console/jobs", translatable("Jobs"), "list-checks"),
    Entry("/console/policies", translatable("Auto-sync"), "refresh-cw"),
    Entry("/console/users", translatable("Users"), "users", for_administrators=True),
    Entry("/console/audit", translatable("Audit"), "scroll-text", for_administrators=True),
    Entry("/console/workers", translatable("Workers"), "cpu", for_administrators=True),
)
"""The entries in their order. Those without a page are not shown."""


def navigation(paths: Collection[str]) -> tuple[Entry, ...]:
    """Return the entries whose pages exist, given the paths of all pages."""
    return tuple(entry for entry in _ENTRIES if entry.path in paths)


def visible_to(caller: Caller, entries: tuple[Entry, ...], *, can_synchronize: bool) -> tuple[Entry, ...]:
    """Return the entries of the pages that a caller can use."""
    return tuple(
        entry
        for entry in entries
        if (caller.is_admin or not entry.for_administrators) and (can_synchronize or not entry.for_writers)
    )

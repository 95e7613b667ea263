"""The file `index.json` of a layout: it is read once, and changes that arrive together are written together."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tagferry import bounds
from tagferry.concurrency import LatestResult
from tagferry.errors import NotFound, TagferryError
from tagferry.layout.files import INDEX, MARKER, MARKER_BYTES, LayoutFiles
from tagferry.layout.index import LayoutIndex, check_marker
from tagferry.layout.threads import LayoutThreads

Change = Callable[[LayoutIndex], LayoutIndex]
"""Returns the new index; called in a thread while no other process writes. It may raise a TagferryError."""


@dataclass(slots=True, eq=False)
class _Update:
    """A change that waits for the next write of the file.

    Attributes:
        error: the reason why it was not made.
    """

    change: Change
    error: TagferryError | None = None


class IndexFile:
    """The index of a layout; belongs to one event loop.

    Args:
        files: the layout's files.
        threads: run the work on them.
        name: the layout's name in messages.
    """

    def __init__(self, files: LayoutFiles, threads: LayoutThreads, *, name: str) -> None:
        self._files = files
        self._threads = threads
        self._name = name
        self._index: LayoutIndex | None = None
        self._updates: list[_Update] = []
        self._written: LatestResult[None] = LatestResult(self._write)

    def forget(self) -> None:
        """Read the file again at the next call."""
        self._index = None

    async def read(self) -> LayoutIndex:
        """Return the index; it is empty if the layout does not exist. Raises Invalid or Unsupported."""
        if self._index is None:
            self._index = await self._threads.run(self._read)
        return self._index

    def _read(self) -> LayoutIndex:
        content = self._files.read(INDEX, bounds.TAG_LIST_BYTES)
        check_marker(self._files.read(MARKER, MARKER_BYTES), field=f"{MARKER} of {self._name}")
        return self._parse(content)

    def _parse(self, content: bytes | None) -> LayoutIndex:
        return LayoutIndex.parse(content, field=f"{INDEX} of {self._name}")

    async def require(self) -> LayoutIndex:
        """Return the index of a layout that has to exist; raises NotFound or Invalid."""
        index = await self.read()
        if not index.entries and await self._threads.run(self._files.size, INDEX) is None:
            kind = "archive" if self._files.is_rewritten else "OCI layout"
            raise NotFound(kind, self._name, "check its path, and that it has an index.json")
        return index

    async def update(self, change: Change) -> None:
        """Change the index; raises what `change` raises, and then the index stays as it is."""
        update = _Update(change)
        self._updates.append(update)
        await self._written.result()
        if update.error is not None:
            raise update.error

    async def _write(self) -> None:
        updates, self._updates = self._updates, []
        await self._threads.run(self._files.replace_index, partial(self._changed, updates))

    def _changed(self, updates: list[_Update], content: bytes | None) -> bytes | None:
        index = before = self._parse(content)
        for update in updates:
            try:
                index = update.change(index)
            except TagferryError as error:
                update.error = error
        self._index = index
        return None if index is before else index.to_bytes()

"""The header fields of a response."""

from collections.abc import Iterator, Mapping
from typing import TypeVar, overload

Default = TypeVar("Default")


class Headers(Mapping[str, str]):
    """Case-insensitive header fields (RFC 9110, section 5.1); a repeated field has the value of its first line.

    Implemented here because the library that offers it takes longer to load than the rest of this client.
    """

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def add(self, name: str, value: str) -> None:
        """Add a line."""
        self._lines.setdefault(name.lower(), []).append(value)

    def clear(self) -> None:
        """Remove all lines."""
        self._lines.clear()

    def every(self, name: str) -> list[str]:
        """Return the values of all lines with this name, in order."""
        return list(self._lines.get(name.lower(), ()))

    @overload
    def get(self, name: str) -> str | None: ...

    @overload
    def get(self, name: str, default: str | Default) -> str | Default: ...

    def get(self, name: str, default: str | Default | None = None) -> str | Default | None:
        """Return the value of the first line, or the default. Unlike that of Mapping, it needs no KeyError for that."""
        lines = self._lines.get(name.lower())
        return default if lines is None else lines[0]

    def __getitem__(self, name: str) -> str:
        return self._lines[name.lower()][0]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._lines

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

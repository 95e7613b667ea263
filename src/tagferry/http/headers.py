"""The header fields of an answer."""

from collections.abc import Iterator, Mapping


class Headers(Mapping[str, str]):
    """Fields by their names, in whatever case (RFC 9110, section 5.1); of a repeated field, its first line's value.

    Of our own because the library that has one takes longer to load than all else that HTTP needs here.
    """

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def add(self, name: str, value: str) -> None:
        """Take one more line."""
        self._lines.setdefault(name.lower(), []).append(value)

    def clear(self) -> None:
        """Drop all lines."""
        self._lines.clear()

    def every(self, name: str) -> list[str]:
        """The values of all lines of this name, in their order."""
        return list(self._lines.get(name.lower(), ()))

    def __getitem__(self, name: str) -> str:
        return self._lines[name.lower()][0]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._lines

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

"""The copies that a command or a list asks for: pure data."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from tagferry.direct.references import ImageReference
from tagferry.names import Tag
from tagferry.remote import Credentials


class TagPattern(Protocol):
    """A regular expression for tags (`tagferry.patterns.Pattern`)."""

    def matches(self, text: str) -> bool:
        """Return whether the expression matches the whole text."""
        ...


class TagSelection(NamedTuple):
    """The tags of a repository to copy; by default, all.

    Attributes:
        tags: these tags, whether they exist or not; with patterns, in addition to what they match.
        patterns: tags that match one of these.
        excluded: but none that match one of these.
    """

    tags: tuple[Tag, ...] = ()
    patterns: tuple[TagPattern, ...] = ()
    excluded: tuple[TagPattern, ...] = ()

    @property
    def needs_list(self) -> bool:
        """True if the tags of the repository have to be listed."""
        return bool(self.patterns) or not self.tags

    def of(self, existing: Iterable[Tag]) -> list[Tag]:
        """Return the tags to copy from a repository with these tags."""
        named = [] if self.tags else list(existing)
        if self.patterns:
            named = [tag for tag in existing if any(pattern.matches(tag) for pattern in self.patterns)]
        wanted = dict.fromkeys((*self.tags, *named))
        return [tag for tag in wanted if not any(pattern.matches(tag) for pattern in self.excluded)]


class CopyTask(NamedTuple):
    """A copy of one image, or of several tags of a repository under their own names.

    Attributes:
        source: an image; with a selection, its repository or layout.
        target: an image; without a tag, the source's tag is used. With a selection, a repository or layout.
        selection: the tags to copy.
        platforms: copy only the images of these platforms, as `os/architecture[/variant]`; empty for all.
        referrers: whether to copy signatures and other referrers.
    """

    source: ImageReference
    target: ImageReference
    selection: TagSelection | None = None
    platforms: tuple[str, ...] = ()
    referrers: bool = True


class CopyList(NamedTuple):
    """The content of a list.

    Attributes:
        plain_http: hosts that the list declares to be without TLS.
        insecure: hosts whose certificates are not verified, by the list.
        credentials: credentials in the list, by host.
        ignored: keys that have no effect on a single run.
    """

    tasks: tuple[CopyTask, ...]
    plain_http: frozenset[str] = frozenset()
    insecure: frozenset[str] = frozenset()
    credentials: Mapping[str, Credentials] = MappingProxyType({})
    ignored: tuple[str, ...] = ()

"""Pages of tags as they were sent, so that a page that shows the same again need not be built again.

Apart from names in the request, a page shows its tags and what the manifests of their images say. So it shows the same
if the tags are the same, which are looked up for each request, and if the files of these manifests are unchanged.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from tagferry import bounds
from tagferry.catalog.contents import BoundedReader
from tagferry.catalog.facts import Memory
from tagferry.catalog.pages import FoundTags
from tagferry.names import Digest

_ENTRY_BYTES = 1000
"""The memory of an answer, about, without its content, tags and manifests."""
_ITEM_BYTES = 500
"""The memory of a tag or of a manifest's digest, about."""


class Answer(NamedTuple):
    """A page of tags as it is sent.

    Attributes:
        found: the page, as it is found again if neither a tag nor a manifest has changed.
        manifests: all manifests that it depends on.
        shown: the number of tags that it shows.
        content: the body of the response.
    """

    found: FoundTags
    manifests: Sequence[Digest]
    shown: int
    content: bytes

    @classmethod
    def of(cls, found: FoundTags, reader: BoundedReader, shown: int, content: bytes) -> "Answer":
        """Return the answer that shows the tags that were found, and what a reader has read of their images."""
        return cls(found._replace(are_unchanged=True), reader.sources, shown, content)


_MEMORY = Memory(lambda: bounds.ANSWER_MEMORY_BYTES)


def known_answer(request: Hashable) -> Answer | None:
    """Return the last answer to a request; None if it is not remembered."""
    found: Answer | None = _MEMORY.get(request)
    return found


def keep_answer(request: Hashable, answer: Answer) -> None:
    """Remember an answer, unless it is very long, or depends on more than its tags and manifests.

    Args:
        request: everything that the answer depends on, except the content of the registry.
        answer: the answer.
    """
    size = _ENTRY_BYTES + len(answer.content) + _ITEM_BYTES * (len(answer.found.records) + len(answer.manifests))
    if answer.manifests and size <= bounds.REMEMBERED_ANSWER_BYTES:
        _MEMORY.keep(request, answer, size)

"""Texts of the search field: the beginning of a name, a reference to an image, or a digest."""

import re
from dataclasses import dataclass
from typing import Self

from tagferry.names import DIGEST_ALGORITHMS, Digest, RepositoryName

_SCHEME = re.compile(r"[a-z][a-z-]*://", re.IGNORECASE)
_DIGEST = re.compile(rf"(?:{'|'.join(DIGEST_ALGORITHMS)}):.*", re.IGNORECASE)
_ENCODED = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """The parsed text of the search field.

    Attributes:
        text: the text.
        host: the host of a registry that it probably begins with; "" if it has none.
        names: beginnings of a repository's name, or of a part of it; a repository matches if it has any of them.
        tag: "" if it has none.
        digest: None if it has none.
        repository: the repository of a reference with a digest; None if there is none.
    """

    text: str
    host: str
    names: tuple[str, ...]
    tag: str
    digest: Digest | None
    repository: RepositoryName | None

    @classmethod
    def of(cls, text: str) -> Self:
        """Parse a text, such as `app`, `docker://registry.example.com/team/app:v1` or a digest.

        Raises:
            InvalidName: its digest is incomplete or of another algorithm, or no repository can have its name.
        """
        rest = _SCHEME.sub("", text, count=1).strip("/@")
        name, _, encoded = rest.rpartition("@")
        if _DIGEST.fullmatch(rest):
            name, encoded = "", rest
        elif _ENCODED.fullmatch(rest):
            name, encoded = "", f"sha256:{rest}"
        elif not name:
            name, encoded = rest, ""
        path, slash, last = name.rpartition("/")
        last, _, tag = last.partition(":")
        name = f"{path}{slash}{last}"
        first, slash, below = name.partition("/")
        host = first.lower() if slash and (first.lower() == "localhost" or set(first) & set(".:[")) else ""
        # A dot may also be in the name of an organization.
        names = tuple(one.lower() for one in ((name, below) if host else (name,)) if one)
        if not encoded:
            return cls(text, host, names, tag, digest=None, repository=None)
        digest = Digest(encoded.lower(), field="the digest")
        repository = RepositoryName(names[-1], field="the repository") if names else None
        return cls(text, host, names, tag, digest, repository)

    def matches(self, name: RepositoryName) -> bool:
        """Return whether a repository has one of the names."""
        return any(name.startswith(one) or f"/{one}" in name for one in self.names)

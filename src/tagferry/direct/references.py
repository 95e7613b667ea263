"""References to images, as users of docker, skopeo, crane and regctl type them.

Sources: the distribution project's `reference` package for names in registries (a first part with a dot, a colon or an
uppercase letter, or `localhost`, is a host; otherwise the registry is Docker Hub), and containers-transports(5) for
`docker://`, `oci:` and `oci-archive:`.
"""

import os
import re
from typing import NamedTuple

from tagferry.docker_hub import HOSTS as DOCKER_HUB_HOSTS
from tagferry.docker_hub import URL as DOCKER_HUB_URL
from tagferry.docker_hub import full_name
from tagferry.errors import Invalid
from tagferry.names import Digest, RepositoryName, Tag

DOCKER_HUB = "docker.io"
LATEST = Tag("latest")
"""The tag of a reference in a registry that names neither a tag nor a digest."""
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?)(:[0-9]{1,5})?")
_HOST_ALONE = re.compile(
    r"((localhost|[0-9]+(\.[0-9]+){3}|\[[^/\]]*\])(:[0-9]{1,5})?|[^/:@]+\.[^/:@]+:[0-9]{1,5})/?(@.*)?"
)
"""A name that docker reads as an image of Docker Hub with a number as its tag, but that was meant as a registry."""
_ARCHIVE = re.compile(r"(.+?\.tar)(?::(.*))?")
"""The path of an archive, and the name of an image in it."""
_OTHER_TRANSPORTS = {
    "containers-storage": "push the image to a registry, or save it with: podman save --format oci-archive",
    "docker-daemon": "save the image with: docker save",
    "dir": "copy the image to an OCI layout, oci:PATH",
    "ostree": "copy the image to an OCI layout, oci:PATH",
    "tarball": "build an image from the files first",
}
"""Transports of skopeo that have no counterpart here, each with what to do instead."""


class RegistryReference(NamedTuple):
    """A repository in a registry, and the image in it, if one is named.

    Attributes:
        host: `host[:port]`; `docker.io` for Docker Hub.
        digest: with a tag, the digest that the image must have.
    """

    host: str
    repository: RepositoryName
    tag: Tag | None = None
    digest: Digest | None = None

    @property
    def without_image(self) -> "RegistryReference":
        """The repository alone."""
        return self._replace(tag=None, digest=None)

    def tagged(self, tag: Tag | None) -> "RegistryReference":
        """Return the reference to this tag of the repository."""
        return self._replace(tag=tag, digest=None)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


class LayoutReference(NamedTuple):
    """An OCI layout, in a directory or in an archive, and the image in it, if one is named.

    Attributes:
        path: the directory or file.
        name: the image's `org.opencontainers.image.ref.name`; empty if none is given. A tag in most layouts.
        is_archive: whether the layout is in a tar file.
        is_docker_archive: whether it was named as an archive of docker, which is only read.
    """

    path: str
    name: str = ""
    digest: Digest | None = None
    is_archive: bool = False
    is_docker_archive: bool = False

    @property
    def tag(self) -> Tag | None:
        """The name as a tag; raises InvalidName if it is none."""
        return Tag(self.name, field="the tag of an OCI layout") if self.name else None

    @property
    def without_image(self) -> "LayoutReference":
        """The layout alone."""
        return self._replace(name="", digest=None)

    def tagged(self, tag: Tag | None) -> "LayoutReference":
        """Return the reference to this tag of the layout."""
        return self._replace(name=tag or "", digest=None)

    def __str__(self) -> str:
        name = f":{self.name}" if self.name else ""
        transport = "oci-archive" if self.is_archive else "oci"
        return f"{transport}:{self.path}{name}" + (f"@{self.digest}" if self.digest else "")


ImageReference = RegistryReference | LayoutReference


def parse_image(text: str, *, field: str) -> ImageReference:
    """Parse a reference to a repository or layout, or to an image in it.

    Args:
        text: what the user typed.
        field: the argument, for errors.

    Raises:
        Invalid: it has a syntax error, or is of a kind that tagferry cannot copy.
    """
    transport, colon, rest = text.partition(":")
    if colon and transport in _OTHER_TRANSPORTS:
        raise Invalid(field, f"must not use the transport {transport}; {_OTHER_TRANSPORTS[transport]}", text)
    if transport in ("http", "https") and rest.startswith("//"):
        rule = "must have no scheme; for a registry without TLS, add --plain-http HOST"
        raise Invalid(field, rule, text)
    if transport == "docker" and rest.startswith("//"):
        return _registry(rest.removeprefix("//"), field=field)
    if transport in ("oci", "ocidir"):
        return _layout(rest.removeprefix("//") if transport == "ocidir" else rest, field=field, is_archive=False)
    if transport in ("oci-archive", "docker-archive"):
        reference = _layout(rest, field=field, is_archive=True)
        return reference._replace(is_docker_archive=transport == "docker-archive")
    if _ARCHIVE.fullmatch(_split_digest(text)[0]):
        if _may_be_host(text.partition("/")):
            rule = f"must say what it is: docker://{text} for a registry, or oci-archive:{text} for a file"
            raise Invalid(field, rule, text)
        return _layout(text, field=field, is_archive=True)
    if text.startswith(("/", "./", "../", "~/")) or text in (".", ".."):
        return _layout(text, field=field, is_archive=False)
    return _registry(text, field=field)


def parse_host(text: str, *, field: str) -> str:
    """Return the host of a registry as references have it; raises Invalid."""
    if not _HOST.fullmatch(text):
        raise Invalid(field, "must be the host of a registry, as in registry.example.com:5000", text)
    return DOCKER_HUB if text in DOCKER_HUB_HOSTS else text.lower()


def registry_url(host: str, *, is_plain: bool) -> str:
    """Return the URL of the registry of a reference, which is reached without TLS if `is_plain`."""
    return DOCKER_HUB_URL if host == DOCKER_HUB else f"{'http' if is_plain else 'https'}://{host}"


def _may_be_host(parts: tuple[str, str, str]) -> bool:
    """Return whether the first part of the path of an archive is more likely a registry than a directory."""
    first, slash, _ = parts
    is_host = bool(slash) and _is_host(first) and _HOST.fullmatch(first) is not None
    return is_host and not os.path.isdir(first)  # noqa: PTH112


def _is_host(first: str) -> bool:
    return any(mark in first for mark in ".:[") or first == "localhost"


def _layout(text: str, *, field: str, is_archive: bool) -> LayoutReference:
    path, digest = _split_digest(text)
    # A path has no colon, as in skopeo; the path of an archive ends with its suffix.
    archive = _ARCHIVE.fullmatch(path) if is_archive else None
    path, _, name = (archive[1], "", archive[2] or "") if archive else path.partition(":")
    if not path:
        raise Invalid(field, "must name the path of an OCI layout or archive", text)
    digest_field = f"the digest of {field}"
    return LayoutReference(
        path=os.path.expanduser(path),  # noqa: PTH111 - a copy starts without pathlib
        name=name,
        digest=Digest(digest, field=digest_field) if digest else None,
        is_archive=is_archive,
    )


def _split_digest(text: str) -> tuple[str, str]:
    """Return a reference without its digest, and the digest; empty if it has none."""
    name, at, digest = text.rpartition("@")
    return (name, digest) if at and ":" in digest else (text, "")


def _registry(text: str, *, field: str) -> RegistryReference:
    if _HOST_ALONE.fullmatch(text):
        rule = f"must name a repository of the registry, as in {text.partition('@')[0].rstrip('/')}/team/app"
        raise Invalid(field, rule, text)
    name, digest = _split_digest(text)
    host, slash, path = name.partition("/")
    is_host = slash and (_is_host(host) or host.lower() != host)
    if not is_host:
        host, path = DOCKER_HUB, name
    if not _HOST.fullmatch(host):
        raise Invalid(field, "must begin with the host of a registry, as in registry.example.com:5000/team/app", text)
    path, _, tag = path.partition(":")
    if host in DOCKER_HUB_HOSTS:
        host = DOCKER_HUB
    repository = RepositoryName(path, field=f"the repository of {field}")
    return RegistryReference(
        host=host.lower(),
        repository=full_name(repository) if host == DOCKER_HUB else repository,
        tag=Tag(tag, field=f"the tag of {field}") if tag or name.endswith(":") else None,
        digest=Digest(digest, field=f"the digest of {field}") if digest else None,
    )

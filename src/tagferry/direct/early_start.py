"""Begins the connections of a copy while its modules are still loaded.

As many are begun as the last copy between the same repositories needed, or one to each registry.
"""

import os
from collections.abc import Collection, Mapping, Sequence

from tagferry.direct.references import ImageReference, LayoutReference, parse_host, parse_image, registry_url
from tagferry.direct.state_file import COPIES, StateFile, state_directory
from tagferry.errors import Invalid
from tagferry.http.early_sockets import EarlySockets
from tagferry.http.proxies import Proxies
from tagferry.http.urls import Origin, origin_of

MOST_CONNECTIONS = 32
"""The maximum number of requests to a registry at once."""


class EarlyStart:
    """The connections that a copy begins early.

    Args:
        origins: the registries, or the proxies to them.
        file: the number of connections of the last copy between the same repositories; None if it is not remembered.
        most: the maximum number of connections to begin to each origin.

    Attributes:
        sockets: the connections that have begun.
        has_tags: whether the target repository had tags after the last copy.
    """

    def __init__(self, origins: Sequence[Origin] = (), file: StateFile | None = None, *, most: int = 1) -> None:
        self.sockets = EarlySockets()
        self._origins = [f"{host}:{port}" for _, host, port in origins]
        self._file = file
        self._most = most
        self._document = {} if file is None else file.load()
        self.has_tags = self._document.get("has_tags") is True
        for _, host, port in origins:
            self.sockets.open(host, port, self._needed(f"{host}:{port}"))

    def remember(self, *, has_tags: bool) -> None:
        """Save for the next copy how many connections this one needed, and whether its target has tags."""
        needed = {f"{host}:{port}": count for (host, port), count in self.sockets.needed.items()}
        connections = {origin: min(needed.get(origin, 1), self._most) for origin in self._origins}
        document = {"connections": connections, "has_tags": has_tags}
        if self._file is not None and document != self._document:
            self._file.save(document)

    def _needed(self, origin: str) -> int:
        known = self._document.get("connections")
        count = known.get(origin) if isinstance(known, dict) else None
        return min(count, self._most) if isinstance(count, int) and count > 0 else 1


def connection_origin(image: ImageReference, *, plain_http: Collection[str], proxies: Proxies) -> Origin | None:
    """Return where connections for an image lead: to its registry, or to the proxy before it; None for a layout.

    Raises:
        Invalid: the environment names an invalid proxy.
        ValueError: the host's port is invalid.
    """
    if isinstance(image, LayoutReference):
        return None
    origin = origin_of(registry_url(image.host, is_plain=image.host in plain_http))
    proxy = proxies.find(origin)
    return origin if proxy is None else proxy.origin


def start_early(
    images: Sequence[str],
    *,
    plain_http: Sequence[str],
    several_tags: bool,
    jobs: int,
    environment: Mapping[str, str] = os.environ,
) -> EarlyStart:
    """Begin to connect to the registries of a copy; invalid arguments are left to the copy itself.

    Args:
        images: the source and the target, as the user typed them; others begin nothing.
        plain_http: the hosts that are reached without TLS.
        several_tags: whether several tags of the source are copied.
        jobs: the maximum number of tags that are copied at once.
        environment: the environment variables.
    """
    if len(images) != 2:
        return EarlyStart()
    try:
        source, target = (parse_image(image, field="SOURCE") for image in images)
        plain = {parse_host(host, field="--plain-http") for host in plain_http}
        proxies = Proxies(environment=environment)
        found = (connection_origin(image, plain_http=plain, proxies=proxies) for image in (source, target))
        origins = dict.fromkeys(origin for origin in found if origin is not None)
    except (Invalid, ValueError):
        return EarlyStart()
    name = f"{source.without_image} {target.without_image} {'tags' if several_tags else 'image'}"
    return EarlyStart(
        [*origins], StateFile(f"{state_directory(environment)}/{COPIES}", name), most=min(jobs, MOST_CONNECTIONS)
    )

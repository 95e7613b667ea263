"""The URLs of a registry: which are its own, and which one a Location or Link means."""

from urllib.parse import urljoin, urlsplit

from tagferry import bounds
from tagferry.errors import Invalid, Unavailable
from tagferry.http.urls import LONGEST_HOST, PORTS, Origin, encoded, origin_of


class RegistryUrls:
    """The URLs of one registry.

    Args:
        name: the registry's name in messages.
        url: its address.
    """

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._own = urlsplit(url)
        self._base = f"{self._own.scheme}://{self._own.netloc}"
        self.origin = origin_of(url)
        # A registry on port 80 that redirects to port 443 of the same host is more secure than its configuration.
        is_http = self.origin[::2] == ("http", 80)
        self._origins = {self.origin, ("https", self.origin[1], 443)} if is_http else {self.origin}

    @property
    def is_https(self) -> bool:
        """Return whether the registry is configured with TLS."""
        return self._own.scheme == "https"

    @property
    def host(self) -> str | None:
        """The registry's host name."""
        return self._own.hostname

    def resolve(self, location: str, base: str = "") -> str:
        """Return the absolute URL of a Location or Link.

        A registry behind a proxy that terminates TLS may name itself with `http`. Its own host is always requested with
        the configured scheme, so that nothing is sent in clear that was not before.

        Raises:
            Unavailable: the URL is not a valid http or https URL.
        """
        if len(location) > bounds.URL_CHARACTERS:
            raise Unavailable(f"registry {self._name} returned a URL of more than {bounds.URL_CHARACTERS} characters")
        try:
            location = encoded(location)
            if location.startswith("/") and not location.startswith("//") and self._is_at_base(base):
                return f"{self._base}{location}".partition("#")[0]
            if location.startswith(f"{self._base}/"):
                return location.partition("#")[0]
            url = urlsplit(urljoin(urljoin(self._base, base), location))
            if url.scheme in PORTS and url.hostname:
                origin_of(url.geturl())
        except (ValueError, Invalid):
            raise Unavailable(f"registry {self._name} returned an invalid URL") from None
        if url.scheme not in PORTS or not url.hostname or len(url.hostname) > LONGEST_HOST:
            raise Unavailable(f"registry {self._name} returned a URL that is not http or https")
        if self._own.scheme == "https" and url.scheme == "http" and url.hostname == self._own.hostname:
            url = url._replace(scheme="https", netloc=self._own.netloc)
        return url._replace(fragment="").geturl()

    def is_own(self, url: str) -> bool:
        """Return whether a URL is the registry's own, so that it may receive the credentials."""
        return self.owns(origin_of(url))

    def owns(self, origin: Origin) -> bool:
        """Return whether an origin is the registry's own."""
        return origin in self._origins

    def is_same(self, first: str, url: str) -> bool:
        """Return whether the authorization of a request to the first URL may be sent to the other one."""
        if first == url:
            return True
        return self.is_own(url) if self.is_own(first) else origin_of(url) == origin_of(first)

    def _is_at_base(self, base: str) -> bool:
        return base.startswith((f"{self._base}/", "/")) or not base

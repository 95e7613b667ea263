"""Docker Hub, which has several host names and implies the prefix of official images."""

from urllib.parse import urlsplit

from tagferry.names import RepositoryName

URL = "https://registry-1.docker.io"
"""The URL of its registry."""
HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
"""The host names of its registry."""
LOGIN_KEY = "https://index.docker.io/v1/"
"""The key under which docker stores its credentials."""
_OFFICIAL = "library"
_PATHS = frozenset({"", "/", "/v1", "/v1/", "/v2", "/v2/"})


def registry_url(value: str) -> str:
    """Return the registry's URL if the value is one of Docker Hub's names, with or without a scheme and `/v1/`."""
    try:
        parts = urlsplit(value if "://" in value else f"//{value}")
        is_hub = parts.hostname in HOSTS and parts.port in (None, 80, 443)
    except ValueError:
        return value
    return URL if is_hub and parts.path in _PATHS and "@" not in parts.netloc and not parts.query else value


def is_hub(url: str) -> bool:
    """Return whether a registry's URL is Docker Hub's."""
    return registry_url(url) == URL


def full_name(repository: RepositoryName) -> RepositoryName:
    """Return the full name of a repository: official images, such as `alpine`, are in `library`."""
    return repository if "/" in repository else RepositoryName(f"{_OFFICIAL}/{repository}")

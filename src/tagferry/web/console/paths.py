"""Paths of the console."""

import re
from urllib.parse import quote

from starlette.types import Scope

ROOT = "/console"
HOME = "/console/"
SIGN_IN = "/console/sign-in"
STATIC = "/console/static/"
IMAGES = "/console/images"

_OWN = re.compile(r"/console/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,2000}")
_PARENT = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|\?|$)", re.IGNORECASE)


def is_console_path(path: str) -> bool:
    """Return whether a path belongs to the console."""
    return path == ROOT or path.startswith(HOME)


def organization_path(region: str, namespace: str) -> str:
    """Return the path of the page of an organization."""
    return f"{IMAGES}/{_segment(region)}/{_segment(namespace)}"


def repository_path(region: str, name: str) -> str:
    """Return the path of the page of a repository, `ORGANIZATION/REPOSITORY`.

    As in SWR's API, a slash in the repository's part is a dollar sign, so that paths of pages below it are unambiguous.
    """
    namespace, _, repository = name.partition("/")
    return f"{organization_path(region, namespace)}/{_segment(repository.replace('/', '$'))}"


def tag_path(region: str, name: str, tag: str) -> str:
    """Return the path of the page of a tag."""
    return f"{repository_path(region, name)}/tags/{_segment(tag)}"


def _segment(text: str) -> str:
    return quote(text, safe="$")


def is_browser_at_root(scope: Scope) -> bool:
    """Return whether a request for `/` prefers HTML, as those of browsers do; `*/*` alone does not."""
    if scope["path"] != "/" or scope["method"] not in ("GET", "HEAD"):
        return False
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1").lower()
    qualities = dict(_quality(one) for one in accepted.split(",")[:50])
    json = next((qualities[kind] for kind in ("application/json", "application/*", "*/*") if kind in qualities), 0.0)
    return qualities.get("text/html", 0.0) > json


def _quality(accepted: str) -> tuple[str, float]:
    kind, *parameters = accepted.split(";")
    quality = next((one.partition("=")[2] for one in parameters if one.strip().startswith("q=")), "1")
    return kind.strip(), float(quality) if re.fullmatch(r"\s*[01](\.\d{0,3})?\s*", quality) else 0.0


def own_path(target: str) -> str:
    """Return a path that a client names as the next page, or the console's home if it may lead out of the console.

    Args:
        target: a path with its query, percent-encoded.
    """
    is_own = _OWN.fullmatch(target) and "//" not in target and not _PARENT.search(target)
    return target if is_own else HOME

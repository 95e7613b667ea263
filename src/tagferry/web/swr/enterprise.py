"""Operations of SWR's enterprise edition, which are answered as not supported."""

import re

from tagferry.errors import Unsupported

_PATH = re.compile(r"/v2/(?:[0-9a-f]{32}|instances)/.+")
"""Paths that start with a project's id or `instances`."""
_OF_A_REGISTRY = re.compile(r".*/(?:manifests/[^/]+|blobs/.+|tags/list|referrers/[^/]+)")


def is_enterprise_path(path: str) -> bool:
    """Return whether a path under `/v2/` belongs to the enterprise edition, and not to a registry."""
    return _PATH.fullmatch(path) is not None and _OF_A_REGISTRY.fullmatch(path) is None


def enterprise_refusal(route: str) -> Unsupported:
    """Return the error for such an operation."""
    return Unsupported(
        f"{route} is an operation of SWR's enterprise edition; tagferry supports the basic edition, under "
        "/v2/manage/ and /v3/manage/"
    )

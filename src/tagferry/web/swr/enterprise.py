"""The enterprise edition's operations, which tagferry does not have: they are answered so."""

import re

from tagferry.errors import Unsupported

_PATH = re.compile(r"/v2/(?:[0-9a-f]{32}|instances)/.+")
"""Beginning with a project's id, or with the instances as such."""
_OF_A_REGISTRY = re.compile(r".*/(?:manifests/[^/]+|blobs/.+|tags/list|referrers/[^/]+)")


def is_enterprise_path(path: str) -> bool:
    """Whether a path under `/v2/` is one of the enterprise edition's, and none of a registry's."""
    return _PATH.fullmatch(path) is not None and _OF_A_REGISTRY.fullmatch(path) is None


def enterprise_refusal(route: str) -> Unsupported:
    """What is to be said where one of them is asked for."""
    return Unsupported(
        f"{route} is an operation of SWR's enterprise edition; tagferry has those of the basic edition, under "
        "/v2/manage/ and /v3/manage/"
    )

"""Validators of single settings. Each takes the configured value and returns the normalized one."""

import re
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from tagferry.digits import whole_number
from tagferry.docker_hub import registry_url
from tagferry.errors import InvalidName
from tagferry.names import Namespace, RegionId, RepositoryName

EMBEDDED = "embedded"
"""The value of `registry` for an embedded registry."""


def region_id(value: str) -> str:
    """Validate a region's id. Like all validators here, raises ValueError with the violated rule."""
    try:
        return RegionId(value)
    except InvalidName as error:
        raise ValueError(error.rule) from None


def address(value: str) -> str:
    """Validate a listen address, HOST:PORT."""
    host, colon, port = value.rpartition(":")
    number = whole_number(port)
    if not colon or not host or number is None or number > 65535 or re.search(r"[\s/@]", host):
        raise ValueError("must have the form HOST:PORT")
    return value


def network(value: str) -> str:
    """Validate an IP address or a network in CIDR notation."""
    try:
        return str(ip_network(value))
    except ValueError:
        rule = "must be an IP address, or a network such as 10.0.0.0/8 without bits set after its prefix"
        raise ValueError(rule) from None


def http_url(value: str) -> str:
    """Validate an http or https URL without credentials, and remove trailing slashes."""
    if not value.startswith(("http://", "https://")) or len(value.split("://", 1)[1]) == 0:
        raise ValueError("must be a URL that starts with http:// or https://")
    if "@" in value:
        raise ValueError("must not contain credentials; set username and password instead")
    try:
        parts = urlsplit(value)
        is_valid = bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", parts.netloc)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError("must have a host, and a port from 1 to 65535 if it has one")
    return value.rstrip("/")


def host(value: str) -> str:
    """Validate HOST or HOST:PORT, with an IPv6 address in brackets."""
    try:
        parts = urlsplit(f"//{value}")
        is_host = parts.netloc == value and "@" not in value and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_host = False
    if not is_host or not re.fullmatch(r"[^\s,*/\\]+", value):
        raise ValueError("must have the form HOST or HOST:PORT, without https:// and without *")
    return value.lower()


def flag(value: Any) -> Any:
    """Convert a boolean from an environment variable; return other values unchanged."""
    return {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower(), value)


def webhook_url(value: str) -> str:
    """Validate an http or https URL that needs no further encoding."""
    http_url(value)
    if not re.fullmatch(r"[\x21-\x7e]+", value) or "#" in value:
        raise ValueError("must be percent-encoded and without a fragment")
    return value


def proxy(value: str) -> str:
    """Validate a proxy's URL, or "none"."""
    if value != "none" and not re.fullmatch(r"https?://[\x21-\x7e]+", value):
        raise ValueError('must be "none", or a URL that starts with http:// or https:// (SOCKS is not supported)')
    return value


def organization(value: str) -> str:
    """Validate an organization's name."""
    try:
        return Namespace(value)
    except InvalidName as error:
        raise ValueError(error.rule) from None


def repository_name(value: str) -> str:
    """Validate a repository's name with its organization, ORG/REPO."""
    try:
        name = RepositoryName(value)
        _ = name.namespace, name.repository
    except InvalidName as error:
        raise ValueError(f"must have the form ORG/REPO ({error.message})") from None
    return value


def registry(value: str) -> str:
    """Validate a registry's URL or "embedded", and normalize Docker Hub's aliases."""
    if value == EMBEDDED:
        return value
    url = http_url(registry_url(value))
    parts = urlsplit(url)
    if parts.path or parts.query or parts.fragment:
        raise ValueError(f"must have no path; use {parts.scheme}://{parts.netloc}")
    return url


def platform(value: str) -> str:
    """Validate a platform, os/architecture or os/architecture/variant."""
    if not re.fullmatch(r"[a-z0-9]+(/[a-z0-9_.-]+){1,2}", value):
        raise ValueError("must have the form os/architecture or os/architecture/variant")
    return value

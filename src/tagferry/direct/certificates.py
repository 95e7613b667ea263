"""Authorities and client certificates of registries, in the directories where docker and podman look for them.

Source: docker's "Verify repository client with certificates", and containers-certs.d(5). A directory is named by its
registry. Its files `*.crt` are authorities to trust in addition to the system's, and `*.cert` and `*.key` of the same
name are a client's certificate and its key.
"""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tagferry.errors import Invalid


class HostCertificates(NamedTuple):
    """The certificates for one registry.

    Attributes:
        authorities: PEM files of authorities.
        certificate: the PEM file of the client's certificate; None if there is none.
        key: the PEM file of its key.
    """

    authorities: tuple[str, ...] = ()
    certificate: str | None = None
    key: str | None = None


def certificate_directories(environment: Mapping[str, str]) -> list[str]:
    """Return the directories of docker, podman and skopeo, in the order in which they are searched."""
    home = environment.get("HOME") or os.path.expanduser("~")  # noqa: PTH111
    own = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    return [
        f"{own}/containers/certs.d",
        "/etc/containers/certs.d",
        # Of docker without root, and of docker.
        f"{own}/docker/certs.d",
        "/etc/docker/certs.d",
    ]


def host_certificates(host: str, directories: Sequence[str]) -> HostCertificates:
    """Return the certificates in the first of the directories that has one for this `host[:port]`.

    Raises:
        Invalid: a client certificate has no key, a key has no certificate, or there are several certificates.
    """
    for directory in directories:
        folder = f"{directory}/{host}"
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208
        except OSError:
            # As docker and podman: one that may not be read is another user's.
            continue
        return _parsed(folder, names)
    return HostCertificates()


def _parsed(folder: str, names: Sequence[str]) -> HostCertificates:
    authorities = tuple(f"{folder}/{name}" for name in names if name.endswith(".crt"))
    certificates, keys = (
        [name.removesuffix(suffix) for name in names if name.endswith(suffix)] for suffix in (".cert", ".key")
    )
    if lonely := sorted(set(certificates) - set(keys)):
        rule = f"must have its key beside it, {lonely[0]}.key; certificates of authorities end with .crt"
        raise Invalid("the client certificate", rule, f"{folder}/{lonely[0]}.cert")
    if lonely := sorted(set(keys) - set(certificates)):
        raise Invalid("the key", f"must have its certificate beside it, {lonely[0]}.cert", f"{folder}/{lonely[0]}.key")
    if len(certificates) > 1:
        raise Invalid(folder, f"must have one client certificate, not {len(certificates)}")
    if not certificates:
        return HostCertificates(authorities)
    return HostCertificates(authorities, f"{folder}/{certificates[0]}.cert", f"{folder}/{certificates[0]}.key")

"""Advice on the errors of a registry."""

from tagferry.errors import NotFound, Refused, TagferryError, Unavailable
from tagferry.remote.transport.credential_helper import HelperFailed


def advice(section: str, error: TagferryError) -> str:
    """Return what to do about an error of the registry that a section of the configuration describes."""
    match error:
        case HelperFailed():
            return f"log in again with the helper's program, or check docker_config in {section}"
        case _ if "certificate" in error.message.lower():
            return f"check ca_file, client_certificate and client_key in {section}"
        case NotFound(kind="resource"):
            return f"check registry in {section}: it is not the address of a registry"
        case NotFound():
            return "name an existing repository that the user can read, with --repository ORG/REPO"
        case Refused():
            return f"check username and password, or docker_config, in {section}"
        case Unavailable():
            return f"check registry, ca_file and the proxy in {section}, and that the registry is running"
    return f"check registry in {section}"

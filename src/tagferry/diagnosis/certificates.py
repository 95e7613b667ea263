"""Certificates: who issued them, for which names, and until when they are valid."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509

SOON = timedelta(days=14)
"""Time before the end of a certificate from which it should be renewed."""
_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Certificate:
    """The facts about a certificate that an operator needs.

    Attributes:
        names: the DNS names and addresses that it is valid for.
    """

    issuer: str
    names: tuple[str, ...]
    expires_at: datetime

    @property
    def issued_for(self) -> str:
        """The names, shortened, for messages."""
        shown = ", ".join(self.names[:_NAMES_SHOWN])
        return f"{shown}, …" if len(self.names) > _NAMES_SHOWN else shown or "no name"

    def expires_soon(self, now: datetime | None = None) -> bool:
        """Return whether it should be renewed."""
        return self.expires_at - (now or datetime.now(UTC)) < SOON

    def is_expired(self, now: datetime | None = None) -> bool:
        """Return whether it has expired."""
        return self.expires_at < (now or datetime.now(UTC))

    def covers(self, host: str) -> bool:
        """Return whether it is valid for a host (RFC 6125, section 6.4)."""
        try:
            return str(ip_address(host.strip("[]"))) in self.names
        except ValueError:
            pass
        name = host.lower().rstrip(".")
        wildcard = f"*.{name.partition('.')[2]}"
        return any(known.lower() in (name, wildcard) for known in self.names)


def parse_der(content: bytes | None) -> Certificate | None:
    """Return the facts about a certificate in DER; None if it cannot be parsed."""
    try:
        return _facts(x509.load_der_x509_certificate(content or b""))
    except ValueError:
        return None


def parse_pem(content: bytes) -> Certificate | None:
    """Return the facts about the first certificate in a PEM file; None if it cannot be parsed."""
    try:
        return _facts(x509.load_pem_x509_certificate(content))
    except ValueError:
        return None


def _facts(certificate: x509.Certificate) -> Certificate:
    names: list[str] = []
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    except (x509.ExtensionNotFound, ValueError):
        pass
    return Certificate(
        issuer=_common_name(certificate.issuer),
        names=tuple(names),
        expires_at=certificate.not_valid_after_utc,
    )


def _common_name(name: x509.Name) -> str:
    for kind in (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME):
        if found := name.get_attributes_for_oid(kind):
            return str(found[0].value)
    return name.rfc4514_string() or "an unnamed authority"

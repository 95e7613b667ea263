"""Certificates for servers on loopback and for their clients."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_HOUR = timedelta(hours=1)


class Authority:
    """Issues certificates that are valid for an hour."""

    def __init__(self, name: str = "authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self._signed = _sign(self._name, self._key, self._name, self._key, hosts=(), ca=True)

    def write(self, path: Path) -> Path:
        """Write the authority's own certificate."""
        path.write_bytes(self._signed.public_bytes(serialization.Encoding.PEM))
        return path

    def issue(self, path: Path, *hosts: str, name: str = "leaf", expired: bool = False, early: bool = False) -> Path:
        """Write a file with a certificate for these host names or addresses, and its key.

        Args:
            path: the file.
            hosts: host names and addresses.
            name: the common name.
            expired: whether the certificate expired an hour ago.
            early: whether the certificate becomes valid in two days.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        number = x509.random_serial_number()
        end = -_HOUR if expired else 51 * _HOUR if early else _HOUR
        signed = _sign(_named(name), key, self._name, self._key, hosts=hosts, number=number, end=end)
        path.write_bytes(_key(key) + signed.public_bytes(serialization.Encoding.PEM))
        return path


def loopback_certificate(folder: Path) -> Path:
    """Write a file with a self-signed certificate for 127.0.0.1, valid for an hour, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), _named("loopback")
    signed = _sign(name, key, name, key, hosts=("127.0.0.1",), ca=True)
    path = folder / "server.pem"
    path.write_bytes(_key(key) + signed.public_bytes(serialization.Encoding.PEM))
    return path


def validity(path: Path) -> tuple[datetime, datetime]:
    """Return from when until when the certificate in a file is valid."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def encrypted_key(path: Path) -> Path:
    """Write a key that is encrypted with a password."""
    locked = serialization.BestAvailableEncryption(b"secret")
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    return path


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _key(key: ec.EllipticCurvePrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def _sign(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    hosts: tuple[str, ...],
    ca: bool = False,
    number: int = 1,
    end: timedelta = _HOUR,
) -> x509.Certificate:
    until = datetime.now(UTC) + end
    builder = (
        x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=key.public_key())
        .serial_number(number)
        .not_valid_before(until - 3 * _HOUR)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
    )
    if hosts:
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)

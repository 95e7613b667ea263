"""Check certificates and their keys before a client finds out that they cannot be used."""

import ssl
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tagferry.app.startup.named_files import NamedFile, is_der, pem_kinds
from tagferry.app.startup.problem import Problem, Severity

_CERTIFICATES = frozenset({"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"})


def check_server_pair(certificate: NamedFile, key: NamedFile) -> list[Problem]:
    """Check the certificate that a server presents, and its key."""
    return _check_pair(certificate, key, expired="error")


def check_client_pair(certificate: NamedFile, key: NamedFile) -> list[Problem]:
    """Check the certificate that is presented to a registry, and its key.

    An expired one is a warning, because it concerns one registry only.
    """
    return _check_pair(certificate, key, expired="warning")


def check_authorities(file: NamedFile) -> list[Problem]:
    """Check a file of certificate authorities to trust."""
    content = file.read()
    if isinstance(content, Problem):
        return [content]
    if (problem := _no_certificate(file, content)) is not None:
        return [problem]
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file.path)
    except (ssl.SSLError, OSError):
        return [file.problem("has a damaged certificate", "get the file again from the authority")]
    expired = [f"{each.not_valid_after_utc:%Y-%m-%d}" for each in _certificates(content) if _has_expired(each)]
    if expired and len(expired) == len(_certificates(content)):
        problem = file.problem(f"has only expired certificates, the last one since {max(expired)}", "renew it")
        return [replace(problem, severity="warning")]
    return []


def _check_pair(certificate: NamedFile, key: NamedFile, *, expired: Severity) -> list[Problem]:
    held, held_key = certificate.read(), key.read()
    problems = [each for each in (held, held_key) if isinstance(each, Problem)]
    if isinstance(held, bytes) and (problem := _no_certificate(certificate, held, key=key)) is not None:
        problems.append(problem)
    if isinstance(held_key, bytes) and (problem := _no_key(key, held_key, certificate)) is not None:
        problems.append(problem)
    if problems or isinstance(held, Problem) or isinstance(held_key, Problem):
        return problems
    if (problem := _mismatch(certificate, key, held, held_key)) is not None:
        return [problem]
    return list(_periods(certificate, _certificates(held), expired))


def _no_certificate(file: NamedFile, content: bytes, *, key: NamedFile | None = None) -> Problem | None:
    kinds = pem_kinds(content)
    if not _CERTIFICATES.isdisjoint(kinds):
        return None
    if any(kind.endswith("PRIVATE KEY") for kind in kinds):
        named = f"name the certificate here, and its key in {key.key}" if key is not None else "name a certificate"
        return file.problem("has a private key and no certificate", named)
    if "CERTIFICATE REQUEST" in kinds or "NEW CERTIFICATE REQUEST" in kinds:
        return file.problem("has a certificate request", "name the certificate that the authority has issued for it")
    if is_der(content):
        return file.problem("is not PEM but DER", f"convert it: openssl x509 -inform der -in {file.path}")
    return file.problem("has no certificate in PEM", "name a file that begins with -----BEGIN CERTIFICATE-----")


def _no_key(file: NamedFile, content: bytes, certificate: NamedFile) -> Problem | None:
    kinds = pem_kinds(content)
    found = next((kind for kind in kinds if kind.endswith("PRIVATE KEY")), None)
    if found == "ENCRYPTED PRIVATE KEY" or (found is not None and b"Proc-Type: 4,ENCRYPTED" in content):
        remedy = f"decrypt it, since tagferry cannot ask for its password: openssl pkey -in {file.path}"
        return file.problem("is encrypted with a password", remedy)
    if found == "OPENSSH PRIVATE KEY":
        return file.problem("is a key of OpenSSH", "name the key with which the certificate was requested")
    if found is not None:
        return None
    if not _CERTIFICATES.isdisjoint(kinds):
        remedy = f"name the key here, and its certificate in {certificate.key}"
        return file.problem("has certificates and no private key", remedy)
    if "PUBLIC KEY" in kinds:
        return file.problem("has a public key and no private key", "name the private key")
    if is_der(content):
        return file.problem("is not PEM but DER", f"convert it: openssl pkey -inform der -in {file.path}")
    return file.problem("has no private key in PEM", "name a file that begins with -----BEGIN PRIVATE KEY-----")


def _mismatch(certificate: NamedFile, key: NamedFile, held: bytes, held_key: bytes) -> Problem | None:
    """Return why OpenSSL refuses the pair; None if it does not."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.path, key.path, password="")
    except ssl.SSLError as error:
        reason = error.reason or ""
    except (OSError, ValueError):
        reason = ""
    else:
        return None
    try:
        private: PrivateKeyTypes = load_pem_private_key(held_key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return key.problem("has a damaged private key, or one of an unknown kind", "restore the file")
    chain = _certificates(held)
    if not chain:
        return certificate.problem("has a damaged certificate", "restore the file")
    wanted = _spki(private.public_key())
    # Some kinds of public keys are never those of a certificate.
    matching = [_public_key(each) == wanted for each in chain]
    if any(matching[1:]) and not matching[0]:
        remedy = "put the server's own certificate first, then the one that issued it, and so on"
        return certificate.problem("has its certificates in the wrong order", remedy)
    if not any(matching):
        fault = f'does not belong to {certificate.key} "{certificate.path}"'
        return key.problem(fault, "name the key with which this certificate was requested")
    if "TOO_SMALL" in reason or "TOO_WEAK" in reason:
        return certificate.problem(
            "has a key or a signature that is too weak for TLS", "get one with 2048 bits or more"
        )
    return certificate.problem("cannot be used for TLS, although its key belongs to it", "get a new certificate")


def _periods(file: NamedFile, chain: list[x509.Certificate], severity: Severity) -> Iterator[Problem]:
    for number, each in enumerate(chain):
        which = "" if number == 0 else f"has an intermediate certificate ({each.subject.rfc4514_string()}) that "
        if _has_expired(each):
            problem = file.problem(f"{which}expired on {each.not_valid_after_utc:%Y-%m-%d}", "renew it")
        elif each.not_valid_before_utc > datetime.now(UTC):
            since = f"{each.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            problem = file.problem(f"{which}is not valid before {since}", "check the clock of this machine")
        else:
            continue
        # Clients may find another way from the server's own certificate to an authority.
        yield replace(problem, severity=severity if number == 0 else "warning")


def _has_expired(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_after_utc <= datetime.now(UTC)


def _certificates(content: bytes) -> list[x509.Certificate]:
    """Return the certificates of a PEM file; none if one of them is damaged, or unusual but good for OpenSSL."""
    with suppress(ValueError), warnings.catch_warnings():
        # Some old authorities have unusual serial numbers.
        warnings.simplefilter("ignore")
        return x509.load_pem_x509_certificates(content)
    return []


def _public_key(certificate: x509.Certificate) -> bytes | None:
    try:
        return _spki(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return None


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

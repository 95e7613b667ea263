"""Connection failures, and their reasons as actionable messages."""

import errno
import os
import re
import socket
import ssl

_WITHOUT_NUMBER: dict[type[BaseException], int] = {
    ConnectionResetError: errno.ECONNRESET,
    ConnectionAbortedError: errno.ECONNABORTED,
    ConnectionRefusedError: errno.ECONNREFUSED,
    BrokenPipeError: errno.EPIPE,
}
"""Errors that event loops raise without an error number or text."""
_ERRNO = re.compile(r"\[Errno (\d+)\]")
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's verification results for a chain without a trusted root (openssl-verification-options(1))."""
_INCOMPLETE_CHAIN = frozenset({20, 21})
"""The results that a missing intermediate certificate may cause."""
NOT_YET_VALID, EXPIRED = 9, 10
"""Verification results of a certificate outside its validity period."""
_VERIFICATION = {
    NOT_YET_VALID: "certificate is not valid yet",
    EXPIRED: "certificate has expired",
    23: "certificate has been revoked",
    62: "certificate is for another host name",
    64: "certificate is for another IP address",
}
_CLIENT_CERTIFICATE = "the server requires a client certificate; set client_certificate and client_key"
NO_TLS = "the server does not speak TLS"
"""The reason for a server without TLS, as errors quote it."""
_TLS = {
    "WRONG_VERSION_NUMBER": NO_TLS,
    "HTTP_REQUEST": NO_TLS,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _CLIENT_CERTIFICATE,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server refused the TLS handshake; it may require a client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the server refused the client certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the server refused the client certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the server refused the client certificate, which has expired",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not trust the authority of the client certificate",
}


_CLIENT_REFUSED = frozenset(_TLS) - {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}


class ConnectionFailed(Exception):
    """The connection failed or could not be made; the message says why."""


class ConnectionTimedOut(ConnectionFailed):
    """The peer transferred no byte within the timeout."""


class TransferTooSlow(ConnectionFailed):
    """The peer transfers fewer bytes per second than the minimum."""

    def __init__(self) -> None:
        super().__init__("the transfer was slower than min_bytes_per_second")


class ConnectTimedOut(ConnectionTimedOut):
    """The connection could not be made in time."""


class CircuitOpen(ConnectionFailed):
    """The request was not sent, because the host has stopped responding."""


class ConnectionRejected(ConnectionFailed):
    """The connection was refused for a reason that waiting does not change, such as a certificate."""


class FlowTooSlow(OSError):
    """A spliced flow fell below the minimum rate."""


def connection_failure(error: Exception) -> ConnectionFailed:
    """Return the failure that a socket or TLS error means."""
    if isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in _CLIENT_REFUSED:
        return ConnectionRejected(reason(error))
    if isinstance(error, FlowTooSlow):
        return TransferTooSlow()
    return ConnectionTimedOut(reason(error)) if isinstance(error, TimeoutError) else ConnectionFailed(reason(error))


def connect_failure(where: str, error: BaseException, detail: str = "") -> ConnectionFailed:
    """Return the failure of a connection that could not be made.

    Args:
        where: scheme, host and port of the peer.
        error: the cause.
        detail: more about the cause, if known.
    """
    message = f"cannot connect to {where}: {reason(error)}{f' ({detail})' if detail else ''}"
    return ConnectionRejected(message) if isinstance(error, ssl.SSLCertVerificationError) else ConnectionFailed(message)


def reason(error: BaseException) -> str:
    """Describe an error; never empty, and without error numbers, memory addresses and class names where possible."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(dict.fromkeys(reason(one) for one in error.exceptions))
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verification(error)
    if isinstance(error, ssl.SSLError):
        return _tls(error)
    if isinstance(error, socket.gaierror):
        return f"the host name cannot be resolved ({error.strerror or str(error) or type(error).__name__})"
    if isinstance(error, TimeoutError) and not error.errno:
        return str(error) or "no data was transferred in time"
    if isinstance(error, OSError) and error.errno:
        # The text of a failed connect repeats the address in Python's own form.
        return os.strerror(error.errno).lower()
    if type(error) in _WITHOUT_NUMBER and not str(error):
        return os.strerror(_WITHOUT_NUMBER[type(error)]).lower()
    if numbers := _ERRNO.findall(str(error)):
        # Several addresses of a host failed with different errors (aiohappyeyeballs).
        return ", ".join(dict.fromkeys(os.strerror(int(number)).lower() for number in numbers))
    return str(error) or str(error.__cause__ or "") or type(error).__name__


def _verification(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _UNKNOWN_AUTHORITY:
        message = "certificate is signed by an unknown authority; set ca_file to trust it"
        is_alone = error.verify_code in _INCOMPLETE_CHAIN
        return f"{message}, or have the server send its intermediate certificates" if is_alone else message
    return _VERIFICATION.get(error.verify_code, f"certificate is not trusted: {error.verify_message or error.reason}")


def _tls(error: ssl.SSLError) -> str:
    named = getattr(error, "reason", None) or ""
    return _TLS.get(named) or (f"TLS failed: {named.replace('_', ' ').lower()}" if named else f"TLS failed: {error}")

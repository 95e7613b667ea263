"""How a connection fails, and the reason in words that a person can act on."""

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
"""Errors that event loops raise by themselves, with nothing but their class."""
_ERRNO = re.compile(r"\[Errno (\d+)\]")
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's verification results for a chain that ends in no trusted authority (openssl-verification-options(1))."""
_INCOMPLETE_CHAIN = frozenset({20, 21})
"""Those where a certificate between the server's and its authority may be missing."""
NOT_YET_VALID, EXPIRED = 9, 10
"""Verification results of a certificate that is not good now."""
_VERIFICATION = {
    NOT_YET_VALID: "certificate is not valid yet",
    EXPIRED: "certificate has expired",
    23: "certificate has been revoked",
    62: "certificate is for another host name",
    64: "certificate is for another IP address",
}
_CLIENT_CERTIFICATE = "the server requires a client certificate; set client_certificate and client_key"
_TLS = {
    "WRONG_VERSION_NUMBER": "the server does not speak TLS",
    "HTTP_REQUEST": "the server does not speak TLS",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _CLIENT_CERTIFICATE,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server refused the TLS handshake; it may require a client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the server refused the client certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the server refused the client certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the server refused the client certificate, which has expired",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not know the authority of the client certificate",
}


_CLIENT_REFUSED = frozenset(_TLS) - {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}


class ConnectionFailed(Exception):
    """The connection failed, or could not be made; the text says how."""


class ConnectionTimedOut(ConnectionFailed):
    """The other side moved no byte for too long."""


class TransferTooSlow(ConnectionFailed):
    """The other side moves bytes, and so few of them that the end is not in sight."""

    def __init__(self) -> None:
        super().__init__("bytes came more slowly than min_bytes_per_second")


class ConnectTimedOut(ConnectionTimedOut):
    """No connection could be made in time."""


class CircuitOpen(ConnectionFailed):
    """Nothing was sent, because the other side answers nothing at present."""


class ConnectionRejected(ConnectionFailed):
    """It cannot be made for a reason that does not pass by waiting, such as a certificate."""


class FlowTooSlow(OSError):
    """A flow of bytes came to less than the slowest rate."""


def connection_failure(error: Exception) -> ConnectionFailed:
    """The fault that an error of a socket or of TLS means."""
    if isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in _CLIENT_REFUSED:
        return ConnectionRejected(reason(error))
    if isinstance(error, FlowTooSlow):
        return TransferTooSlow()
    return ConnectionTimedOut(reason(error)) if isinstance(error, TimeoutError) else ConnectionFailed(reason(error))


def connect_failure(where: str, error: BaseException, detail: str = "") -> ConnectionFailed:
    """The fault of a connection that could not be made.

    Args:
        where: scheme, host and port of the other side.
        error: why.
        detail: what else is known of the reason.
    """
    message = f"cannot connect to {where}: {reason(error)}{f' ({detail})' if detail else ''}"
    return ConnectionRejected(message) if isinstance(error, ssl.SSLCertVerificationError) else ConnectionFailed(message)


def reason(error: BaseException) -> str:
    """An error in words, never empty: without numbers, addresses of memory or the names of classes where possible."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(dict.fromkeys(reason(one) for one in error.exceptions))
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verification(error)
    if isinstance(error, ssl.SSLError):
        return _tls(error)
    if isinstance(error, socket.gaierror):
        return f"the host name cannot be resolved ({error.strerror or str(error) or type(error).__name__})"
    if isinstance(error, TimeoutError) and not error.errno:
        return str(error) or "nothing moved in time"
    if isinstance(error, OSError) and error.errno:
        # The text of a failed connect repeats the address in Python's own form.
        return os.strerror(error.errno).lower()
    if type(error) in _WITHOUT_NUMBER and not str(error):
        return os.strerror(_WITHOUT_NUMBER[type(error)]).lower()
    if numbers := _ERRNO.findall(str(error)):
        # Several addresses of a host failed, each in its own way (aiohappyeyeballs).
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

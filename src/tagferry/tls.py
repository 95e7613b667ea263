"""TLS contexts that follow their files: what is renewed counts for the next connection, without a restart."""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tagferry.errors import Invalid
from tagferry.events import Events
from tagferry.file_stamp import FileStamp, file_stamp

if TYPE_CHECKING:
    from pathlib import Path

log = Events(__name__)


class ReloadingContext:
    """A context that is built again after its files have changed; connections that are open keep the one they have.

    Files may be written one after the other: where they do not fit together, the last context that could be built
    stays in use, which is logged once, until they have changed again.

    Args:
        build: makes the context; raises Invalid if a file cannot be used.
        files: what it is made of.
    """

    def __init__(self, build: Callable[[], ssl.SSLContext], files: Sequence["Path"]) -> None:
        self._build = build
        self._files = tuple(files)
        self._context: ssl.SSLContext | None = None
        self._seen: tuple[FileStamp | None, ...] = ()

    def current(self) -> ssl.SSLContext:
        """The context for a new connection; raises Invalid where there never was one."""
        seen = tuple(file_stamp(file) for file in self._files)
        if self._context is None:
            self._context, self._seen = self._build(), seen
        elif seen != self._seen:
            self._seen = seen
            try:
                self._context = self._build()
            except Invalid as error:
                log.warning("kept the old TLS files", reason=error.message)
            else:
                log.info("loaded renewed TLS files", files=", ".join(str(file) for file in self._files))
        return self._context


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """Whom a client trusts, and what it shows of itself.

    Attributes:
        ca_file: PEM file with authorities to trust in addition to the system's.
        ca_only: trust those in `ca_file` alone.
        skip_verify: take any certificate.
        certificate: PEM file with the client's certificate and those between it and its authority.
        key: PEM file with its key, not encrypted.
    """

    ca_file: "Path | None" = None
    ca_only: bool = False
    skip_verify: bool = False
    certificate: "Path | None" = None
    key: "Path | None" = None

    def reloading(self, *, with_certificate: bool) -> ReloadingContext:
        """A context as this says, kept up to date; it shows the certificate where it is `with_certificate`."""
        files = [self.ca_file, *((self.certificate, self.key) if with_certificate else ())]
        return ReloadingContext(
            lambda: self.context(with_certificate=with_certificate), [file for file in files if file is not None]
        )

    def context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """A context as this says now.

        Raises:
            Invalid: names the setting whose file is missing or of no use.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if self.ca_only else ssl.create_default_context()
        self._load(context, with_certificate=with_certificate)
        if self.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def check(self) -> None:
        """Raise Invalid as `context` does; the system's authorities are not read for this."""
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), with_certificate=True)

    def _load(self, context: ssl.SSLContext, *, with_certificate: bool) -> None:
        if self.ca_file is not None:
            _readable(self.ca_file, "ca_file")
            try:
                context.load_verify_locations(self.ca_file)
            except (ssl.SSLError, OSError) as error:
                raise Invalid(
                    "ca_file", f"must be a PEM file of certificates ({_why(error)})", str(self.ca_file)
                ) from None
        if with_certificate and self.certificate is not None and self.key is not None:
            _load_pair(context, self.certificate, self.key, prefix="client")


class ClientContexts:
    """A client's contexts for new connections, made when they are needed.

    Args:
        tls: whom to trust, and what to show; by default the system's authorities, and nothing.
    """

    def __init__(self, tls: ClientTls | None = None) -> None:
        self._tls = tls or ClientTls()
        self._reloading: dict[bool, ReloadingContext] = {}

    def current(self, *, with_certificate: bool) -> ssl.SSLContext:
        """The one that shows the client's certificate, or the one that does not; raises Invalid as `ClientTls`."""
        if with_certificate not in self._reloading:
            self._reloading[with_certificate] = self._tls.reloading(with_certificate=with_certificate)
        return self._reloading[with_certificate].current()


def server_context(certificate: "Path", key: "Path") -> ssl.SSLContext:
    """A server's context, whose new connections show the certificate that is in the files now.

    Raises:
        Invalid: names the setting whose file is missing or of no use.
    """

    def build() -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _load_pair(context, certificate, key, prefix="tls")
        return context

    reloading = ReloadingContext(build, (certificate, key))

    def renew(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # OpenSSL calls this for each handshake, whether the client names a host or not.
        connection.context = reloading.current()

    context = reloading.current()
    context.sni_callback = renew
    return context


def _load_pair(context: ssl.SSLContext, certificate: "Path", key: "Path", *, prefix: str) -> None:
    fields = f"{prefix}_certificate", f"{prefix}_key"
    for file, field, label in ((certificate, fields[0], b"CERTIFICATE-----"), (key, fields[1], b"PRIVATE KEY-----")):
        if label not in _readable(file, field):
            what = "certificates" if file is certificate else "a private key"
            raise Invalid(field, f"must be a PEM file with {what}", str(file))

    def no_password() -> str:
        raise Invalid(fields[1], "must not be encrypted, since tagferry has no password for it", str(key))

    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Invalid(fields[1], f"must be the key of {fields[0]} {certificate}", str(key)) from None
        raise Invalid(
            fields[0], f"and {fields[1]} must be PEM files of a pair ({_why(error)})", str(certificate)
        ) from None


def _readable(file: "Path", field: str) -> bytes:
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 - a start without this module's paths is a fast one
            return opened.read()
    except OSError as error:
        raise Invalid(field, f"must be a file that can be read ({_why(error)})", str(file)) from None


def _why(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else error.strerror
    return str(reason or error).replace("_", " ").lower()

"""TLS contexts that follow their files: new connections use renewed files without a restart."""

import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tagferry.errors import Invalid
from tagferry.events import Events
from tagferry.file_stamp import FileStamp, file_stamp

if TYPE_CHECKING:
    from pathlib import Path

log = Events(__name__)


class ReloadingContext:
    """A context that is rebuilt when its files change; open connections keep their context.

    Files may be replaced one after the other. While they do not match, the last valid context stays in use, which is
    logged once per change.

    Args:
        build: builds the context; raises Invalid if a file is unusable.
        files: the files that the context is built from.
    """

    def __init__(self, build: Callable[[], ssl.SSLContext], files: Sequence["Path"]) -> None:
        self._build = build
        self._files = tuple(files)
        self._context: ssl.SSLContext | None = None
        self._seen: tuple[FileStamp | None, ...] = ()

    def current(self) -> ssl.SSLContext:
        """Return the context for a new connection; raise Invalid if none could ever be built."""
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


class ClientTls(NamedTuple):
    """A client's trusted authorities and its own certificate.

    Attributes:
        ca_file: PEM file of authorities to trust in addition to the system's.
        more_ca_files: more such files.
        ca_only: trust only the authorities in these files.
        skip_verify: accept any certificate.
        certificate: PEM file of the client's certificate and its intermediate certificates.
        key: PEM file of its key, not encrypted.
    """

    ca_file: "Path | None" = None
    more_ca_files: "tuple[Path, ...]" = ()
    ca_only: bool = False
    skip_verify: bool = False
    certificate: "Path | None" = None
    key: "Path | None" = None

    def reloading(self, *, with_certificate: bool) -> ReloadingContext:
        """Return a context that follows the files; it presents the client's certificate if `with_certificate`."""
        files = [self.ca_file, *self.more_ca_files, *((self.certificate, self.key) if with_certificate else ())]
        return ReloadingContext(
            lambda: self.context(with_certificate=with_certificate), [file for file in files if file is not None]
        )

    def context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """Build a context from the current files.

        Raises:
            Invalid: names the setting whose file is missing or unusable.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if self.ca_only else ssl.create_default_context()
        self._load(context, with_certificate=with_certificate)
        if self.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def check(self) -> None:
        """Raise Invalid as `context` does, without loading the system's authorities."""
        if self.ca_file or self.more_ca_files or self.certificate:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), with_certificate=True)

    def _load(self, context: ssl.SSLContext, *, with_certificate: bool) -> None:
        for file in (self.ca_file, *self.more_ca_files):
            if file is None:
                continue
            _readable(file, "ca_file")
            try:
                context.load_verify_locations(file)
            except (ssl.SSLError, OSError) as error:
                rule = f"must be a PEM file of certificates ({_why(error)})"
                raise Invalid("ca_file", rule, str(file)) from None
        if with_certificate and self.certificate is not None and self.key is not None:
            _load_pair(context, self.certificate, self.key, prefix="client")


class ClientContexts:
    """A client's contexts for new connections, built on first use.

    Args:
        tls: trusted authorities and client certificate; by default the system's authorities and no certificate.
    """

    def __init__(self, tls: ClientTls | None = None) -> None:
        self._tls = tls or ClientTls()
        self._reloading: dict[bool, ReloadingContext] = {}

    def current(self, *, with_certificate: bool) -> ssl.SSLContext:
        """Return the context with or without the client's certificate; raise Invalid as `ClientTls`."""
        if with_certificate not in self._reloading:
            self._reloading[with_certificate] = self._tls.reloading(with_certificate=with_certificate)
        return self._reloading[with_certificate].current()


def server_context(certificate: "Path", key: "Path") -> ssl.SSLContext:
    """Return a server context whose new connections present the certificate that is currently in the files.

    Raises:
        Invalid: names the setting whose file is missing or unusable.
    """

    def build() -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _load_pair(context, certificate, key, prefix="tls")
        return context

    reloading = ReloadingContext(build, (certificate, key))

    def renew(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # OpenSSL calls this for every handshake, even if the client sends no server name.
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

"""An installation to break, and users who may not read it."""

import codecs
import os
import pwd
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.fernet import Fernet

from tests.support.certificates import Authority
from tests.support.disks import IS_ROOT, NOBODY
from tests.support.processes import free_port
from tests.support.schemas import sqlite_in

KEY, OTHER_KEY = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@dataclass
class Site:
    """A directory with a configuration of one region, and a database without users.

    Attributes:
        environment: the variables of its server.
        arguments: the server's arguments; by default, the name of the configuration.
        is_nobody: whether its server runs as another user than root.
    """

    folder: Path
    stack: ExitStack
    environment: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ("--config", "tagferry.toml")
    is_nobody: bool = False

    def __post_init__(self) -> None:
        self.port = free_port()
        self.configure()

    @property
    def data(self) -> Path:
        return self.folder / "tagferry-data"

    @property
    def database(self) -> Path:
        return self.data / "tagferry.db"

    def configure(self, region: str = "", *, top: str = "", more: str = "") -> None:
        """Write the configuration: the lines of the region `north`, what is before it, and what follows."""
        listen = "" if "listen" in region or "registry =" in region else f'listen = "127.0.0.1:{self.port}"\n'
        self.write(f"{top}\n[regions.north]\n{listen}{region}\n{more}\n")

    def write(self, text: str | bytes, name: str = "tagferry.toml") -> Path:
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def with_database(self) -> None:
        """Create a database without users."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        sqlite_in(self.data)

    def with_key(self) -> None:
        """Create a database with a user, whose access key is encrypted with `KEY`."""
        self.with_database()
        with sqlite3.connect(self.database) as connection:
            connection.execute("INSERT INTO domains (id, name) VALUES ('d', 'acme')")
            connection.execute(
                "INSERT INTO users (id, domain_id, name, password_hash, is_admin, enabled, created_at) "
                "VALUES ('u', 'd', 'carol', '', 1, 1, '2026-01-01 00:00:00')"
            )
            connection.execute(
                "INSERT INTO access_keys (access_key, user_id, secret_encrypted, enabled, created_at) "
                "VALUES ('AK', 'u', ?, 1, '2026-01-01 00:00:00')",
                [Fernet(KEY).encrypt(b"secret").decode()],
            )
        connection.close()

    def pair(self, authority: Authority | None = None, *, expired: bool = False, early: bool = False) -> Path:
        """Write a certificate for 127.0.0.1 with its key."""
        authority = authority or Authority()
        return authority.issue(self.folder / "pair.pem", "127.0.0.1", expired=expired, early=early)

    def as_nobody(self) -> None:
        """Run the server as a user without privileges, who may write to the data."""
        self.is_nobody = True
        self.data.mkdir(mode=0o700)
        if IS_ROOT:
            os.chown(self.data, NOBODY, NOBODY)

    def with_tls(self, certificate: str, key: str) -> None:
        self.configure(f'tls_certificate = "{certificate}"\ntls_key = "{key}"')


Case = Callable[[Site], str]
"""Breaks a site, and returns the error that its server has to end with."""


@contextmanager
def site() -> Iterator[Site]:
    """Make a site that starts. Other users can enter its directory."""
    with tempfile.TemporaryDirectory(prefix="tagferry-") as name, ExitStack() as stack:
        Path(name).chmod(0o755)
        yield Site(Path(name), stack)


def name_of(user: int) -> str:
    return pwd.getpwuid(user).pw_name


def name_of_nobody() -> str:
    """Return the name of the user as whom servers run that must not be root."""
    return name_of(NOBODY if IS_ROOT else os.geteuid())


@contextmanager
def as_nobody() -> Iterator[None]:
    """Act as a user without privileges."""
    if not IS_ROOT:
        yield
        return
    # Python may be where other users cannot load the rest of it.
    codecs.lookup("utf-8-sig")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)

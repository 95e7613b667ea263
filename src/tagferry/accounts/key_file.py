"""The file with the keys that encrypt stored secrets.

It has one Fernet key a line (32 bytes in URL-safe base64), newest first: the first one encrypts, and all of them
decrypt. It is replaced as a whole, so a reader sees the former keys or the new ones.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.fernet import Fernet

from tagferry.errors import Conflict, Unavailable

_ID_LENGTH = 16


def parse_keys(text: str) -> list[str]:
    """Return the keys of a file or of the setting `secret_key`, where commas separate them."""
    return [key.strip() for key in text.replace("\n", ",").split(",") if key.strip()]


def new_key() -> str:
    """Return a random key."""
    return Fernet.generate_key().decode()


def key_id(key: str) -> str:
    """Return the public identifier of a key, from which the key cannot be derived."""
    return hashlib.sha256(b"tagferry key " + key.encode()).hexdigest()[:_ID_LENGTH]


def read_keys(path: Path) -> list[str]:
    """Return the keys of the file, newest first."""
    return parse_keys(path.read_text("ascii"))


def read_or_create(path: Path) -> str:
    """Return the text of the file, which is created with a new key if it is missing."""
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = new_key()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text("ascii")
    with os.fdopen(handle, "w") as file:
        file.write(key)
        file.flush()
        os.fsync(handle)
    return key


def write_keys(path: Path, keys: Sequence[str]) -> None:
    """Replace the file's keys, durably; the file keeps its owner.

    Raises:
        Unavailable: the file cannot be written; it is unchanged.
    """
    path = path.resolve()
    beside = path.with_name(f"{path.name}.new")
    try:
        owner = path.stat()
        beside.unlink(missing_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(handle, owner.st_uid, owner.st_gid)
            file.write("".join(f"{key}\n" for key in keys))
            file.flush()
            os.fsync(handle)
        beside.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise Unavailable(
            f'the key file "{path}" cannot be replaced ({error.strerror}); run this command as its owner'
        ) from None


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Be the only command that changes the file while the context is open; raises Conflict."""
    descriptor = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("key file", f'another command changes the key file "{path}"; try again later') from None
        yield
    finally:
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

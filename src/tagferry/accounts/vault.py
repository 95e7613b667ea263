"""Secrets at rest: encrypted secrets of access keys, and hashed passwords."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from tagferry import bounds
from tagferry.accounts.key_file import key_id, new_key, parse_keys, read_or_create
from tagferry.errors import Invalid, Unavailable
from tagferry.events import SparseEvents
from tagferry.file_stamp import FileStamp, file_stamp

Result = TypeVar("Result")

# OWASP's minimum for argon2id: 19 MiB and two passes.
HASHING_THREADS = min(4, max(1, (os.cpu_count() or 1) // 2))
"""Concurrent password hashes, so that logins exhaust neither memory nor processors."""
_NICE = 10
"""The niceness of hashing threads, so that they yield to the thread that serves requests."""

log = SparseEvents(__name__)

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@dataclass(frozen=True, slots=True)
class _Keys:
    """Keys, newest first, with their identifiers."""

    all: MultiFernet
    newest: Fernet
    ids: Sequence[str]

    @classmethod
    def of(cls, keys: Sequence[str]) -> "_Keys":
        """Parse the keys; raises Invalid."""
        try:
            parsed = [Fernet(key) for key in keys]
            return cls(MultiFernet(parsed), parsed[0], [key_id(key) for key in keys])
        except ValueError:
            rule = "must be Fernet keys (32 bytes, URL-safe base64), comma-separated, newest first"
            raise Invalid("secret_key", f"{rule}; make one with: tagferry secret generate") from None


class Vault:
    """Encrypts with the newest key and decrypts with any of them.

    Keys from a file are read again when the file has changed, so that a rotation needs no restart.

    Args:
        keys: the keys, newest first.
        file: the file that has them, if they are not configured.
    """

    def __init__(self, keys: Sequence[str], file: Path | None = None) -> None:
        self._keys = _Keys.of(keys)
        self._file = file
        self._stamp: FileStamp | None = None
        self._hashing = asyncio.Semaphore(HASHING_THREADS)

    @classmethod
    def open(cls, configured: str | None, key_file: Path) -> "Vault":
        """Use the configured keys, or the key file, which is created if missing.

        Raises:
            Invalid: a key is malformed.
        """
        if configured:
            return cls(parse_keys(configured))
        try:
            return cls(parse_keys(read_or_create(key_file)), key_file)
        except Invalid:
            rule = "has no valid Fernet keys (32 bytes, URL-safe base64)"
            remedy = "restore it from a backup, or if it is lost, put a new key into it: tagferry secret generate"
            raise Invalid(f'the key file "{key_file}"', f"{rule}; {remedy}") from None

    @classmethod
    def temporary(cls) -> "Vault":
        """Use a new key that is not stored."""
        return cls([new_key()])

    @property
    def key_ids(self) -> list[str]:
        """The identifiers of the current keys, newest first."""
        self._renew()
        return list(self._keys.ids)

    def replace(self, other: "Vault") -> None:
        """Use the keys of another vault from now on."""
        self._keys, self._file, self._stamp = other._keys, other._file, other._stamp

    def can_decrypt(self, encrypted: str) -> bool:
        """Return whether one of the keys decrypts a secret."""
        try:
            self._decrypted(encrypted.encode())
        except InvalidToken:
            return False
        return True

    def encrypt(self, secret: str) -> str:
        """Encrypt with the newest key, whatever other process has put it into the file."""
        self._renew()
        return self._keys.all.encrypt(secret.encode()).decode()

    def decrypt(self, encrypted: str) -> str:
        """Return the secret; raises Unavailable if no key can decrypt it."""
        try:
            return self._decrypted(encrypted.encode()).decode()
        except InvalidToken:
            raise Unavailable(
                "a secret cannot be decrypted with the configured secret_key; restore the key that encrypted it"
            ) from None

    def is_current(self, encrypted: str) -> bool:
        """Return whether a secret was encrypted with the newest key."""
        try:
            self._keys.newest.decrypt(encrypted.encode())
        except InvalidToken:
            return False
        return True

    def _renew(self) -> bool:
        """Read the file again if it has changed; returns whether there are other keys."""
        if self._file is None or (stamp := file_stamp(self._file)) in (None, self._stamp):
            return False
        try:
            self._keys = _Keys.of(parse_keys(self._file.read_text("utf-8", "replace")))
        except (OSError, Invalid) as error:
            # The former keys remain in use.
            log.warning("could not read the key file", path=str(self._file), reason=str(error))
            return False
        self._stamp = stamp
        return True

    def _decrypted(self, token: bytes) -> bytes:
        try:
            return self._keys.all.decrypt(token)
        except InvalidToken:
            if not self._renew():
                raise
        return self._keys.all.decrypt(token)

    def seal(self, document: dict[str, Any]) -> str:
        """Return the document as text that only holders of the keys can read or create."""
        return self.encrypt(json.dumps(document, separators=(",", ":")))

    def unseal(self, sealed: str) -> dict[str, Any] | None:
        """Return the sealed document, or None if the text was not sealed with these keys."""
        if len(sealed) > bounds.SEALED_BYTES:
            return None
        try:
            document = json.loads(self._decrypted(_bytes(sealed)))
        except (InvalidToken, ValueError):
            return None
        return document if isinstance(document, dict) else None

    async def hash_password(self, password: str) -> str:
        async with self._hashing:
            return await _apart(_hasher.hash, _bytes(password))

    async def password_matches(self, password: str, hashed: str) -> bool:
        async with self._hashing:
            return await _apart(_matches, password, hashed)


def _give_way() -> None:
    # On Linux, each thread has its own priority; elsewhere this would change the whole process.
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


_threads = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="hashing", initializer=_give_way)


async def _apart(work: Callable[..., Result], *arguments: Any) -> Result:
    return await asyncio.get_running_loop().run_in_executor(_threads, work, *arguments)


def _matches(password: str, hashed: str) -> bool:
    try:
        return _hasher.verify(hashed, _bytes(password))
    except (VerificationError, InvalidHashError):
        return False


def _bytes(password: str) -> bytes:
    """Encode any text, including lone surrogates, which JSON can contain and strict UTF-8 cannot."""
    return password.encode("utf-8", "surrogatepass")

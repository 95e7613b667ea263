"""Secrets at rest: encrypted secrets of access keys, and hashed passwords."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from tagferry import bounds
from tagferry.errors import Invalid, Unavailable

Result = TypeVar("Result")

# OWASP's minimum for argon2id: 19 MiB and two passes.
HASHING_THREADS = min(4, max(1, (os.cpu_count() or 1) // 2))
"""Concurrent password hashes, so that logins exhaust neither memory nor processors."""
_NICE = 10
"""The niceness of hashing threads, so that they yield to the thread that serves requests."""

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


class Vault:
    """Encrypts with the newest key and decrypts with any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            rule = "must be Fernet keys (32 bytes, URL-safe base64), comma-separated, newest first"
            raise Invalid("secret_key", rule) from None
        self._hashing = asyncio.Semaphore(HASHING_THREADS)

    @classmethod
    def open(cls, configured: str | None, key_file: Path) -> "Vault":
        """Use the configured keys, or the key file, which is created if missing.

        Raises:
            Invalid: a key is malformed.
        """
        text = configured or _read_or_create(key_file)
        keys = [key.strip() for key in text.replace("\n", ",").split(",") if key.strip()]
        try:
            return cls(keys)
        except Invalid:
            if configured:
                raise
            rule = "has no valid Fernet keys (32 bytes, URL-safe base64); restore it from a backup"
            raise Invalid(f'the key file "{key_file}"', rule) from None

    @classmethod
    def temporary(cls) -> "Vault":
        """Use a new key that is not stored."""
        return cls([Fernet.generate_key().decode()])

    def can_decrypt(self, encrypted: str) -> bool:
        """Return whether one of the keys decrypts a secret."""
        try:
            self._fernet.decrypt(encrypted.encode())
        except InvalidToken:
            return False
        return True

    def encrypt(self, secret: str) -> str:
        return self._fernet.encrypt(secret.encode()).decode()

    def decrypt(self, encrypted: str) -> str:
        """Return the secret; raises Unavailable if no key can decrypt it."""
        try:
            return self._fernet.decrypt(encrypted.encode()).decode()
        except InvalidToken:
            raise Unavailable(
                "a secret cannot be decrypted with the configured secret_key; restore the key that encrypted it"
            ) from None

    def seal(self, document: dict[str, Any]) -> str:
        """Return the document as text that only holders of the keys can read or create."""
        return self.encrypt(json.dumps(document, separators=(",", ":")))

    def unseal(self, sealed: str) -> dict[str, Any] | None:
        """Return the sealed document, or None if the text was not sealed with these keys."""
        if len(sealed) > bounds.SEALED_BYTES:
            return None
        try:
            document = json.loads(self._fernet.decrypt(_bytes(sealed)))
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


def _read_or_create(key_file: Path) -> str:
    try:
        return key_file.read_text("utf-8", "replace")
    except FileNotFoundError:
        key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = Fernet.generate_key().decode()
    try:
        handle = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return key_file.read_text("ascii")
    with os.fdopen(handle, "w") as file:
        file.write(key)
        file.flush()
        os.fsync(handle)
    return key

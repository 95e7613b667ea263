"""Docker's credential helpers: programs `docker-credential-NAME` that hold credentials.

Source: docker's documentation of `docker login`, "Credential helper protocol".
"""

import asyncio
import json
import os
import re
import shutil
import signal
from contextlib import suppress

from tagferry.errors import Refused, Unavailable
from tagferry.remote.endpoint import Credentials

HELPER_TIMEOUT = 30.0
"""Seconds that a credential helper may take."""
_OUTPUT_LIMIT = 64 * 1024
"""Bytes that a helper may write to each of its outputs."""
_END_SECONDS = 5.0
_SHOWN = 300
_TOKEN_USER = "<token>"  # noqa: S105 - how helpers mark an identity token
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_NOT_FOUND = "not found"


async def ask_helper(helper: str, key: str, *, timeout: float = HELPER_TIMEOUT) -> Credentials | None:
    """Ask a credential helper for the credentials stored under a key; None if it has none.

    Args:
        helper: the part of the program's name after `docker-credential-`.
        key: the server's URL or host, as docker stores it.
        timeout: seconds that the helper may take.

    Raises:
        Unavailable: it fails, or takes too long.
        Refused: it is not installed, or answers something else than credentials.
    """
    if not _NAME.fullmatch(helper):
        raise Refused(f"credential helper {helper!r} must be named by letters, digits, '-', '_' and '.'")
    name = f"docker-credential-{helper}"
    program = await asyncio.to_thread(shutil.which, name)
    if program is None:
        raise Refused(f"credential helper {name} is not installed; put it on the PATH of tagferry")
    code, output, complaint = await _run(name, program, key, timeout)
    if code != 0:
        # Helpers report errors on the standard output.
        said = _readable(output) or _readable(complaint)
        if _NOT_FOUND in said.lower():
            return None
        reason = f": {said}" if said else ""
        raise Unavailable(f"credential helper {name} failed for {key} with exit code {code}{reason}")
    return _read(name, output)


async def _run(name: str, program: str, key: str, timeout: float) -> tuple[int, bytes, bytes]:
    """Run a helper; gives its exit code and what it wrote to both outputs."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise Refused(f"credential helper {name} cannot be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(timeout):
            outputs = await _exchange(process, key)
            return await process.wait(), *outputs
    except TimeoutError:
        await _kill(process)
        raise Unavailable(f"credential helper {name} did not answer within {timeout:g} seconds") from None
    except ValueError:
        await _kill(process)
        raise Unavailable(f"credential helper {name} wrote more than {_OUTPUT_LIMIT} bytes") from None
    except BaseException:
        await _kill(process)
        raise


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End a helper, and the programs that it started, which may hold its outputs open."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            # What is left in the pipes is read, so that they close.
            await process.communicate()


async def _exchange(process: asyncio.subprocess.Process, key: str) -> tuple[bytes, bytes]:
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:
        raise AssertionError("all three are pipes")
    with suppress(ConnectionError):
        stdin.write(key.encode())
        await stdin.drain()
    stdin.close()
    reading = [asyncio.ensure_future(_bounded(stream)) for stream in (stdout, stderr)]
    try:
        output, complaint = await asyncio.gather(*reading)
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    return output, complaint


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    """Read a stream to its end; raises ValueError where it is too long."""
    read = bytearray()
    while chunk := await stream.read(8192):
        read += chunk
        if len(read) > _OUTPUT_LIMIT:
            raise ValueError("too long")
    return bytes(read)


def _read(name: str, output: bytes) -> Credentials | None:
    try:
        document = json.loads(output)
        username, secret = document["Username"], document["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused(f"credential helper {name} answered something else than credentials") from None
    if username == _TOKEN_USER:
        return Credentials(identity_token=str(secret))
    return Credentials(username=str(username), password=str(secret)) if username else None


def _readable(output: bytes) -> str:
    """What a helper said about its failure, in one line; nothing where it may hold a secret."""
    text = output.decode(errors="replace")
    if re.search(r"secret|password|token\"?\s*[:=]", text, re.IGNORECASE) and re.search(r"[{=]", text):
        return ""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"

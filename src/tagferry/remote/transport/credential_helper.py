"""Docker's credential helpers: programs `docker-credential-NAME` that store credentials.

Source: docker's documentation of `docker login`, "Credential helper protocol".
"""

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

from tagferry.errors import Refused, Unavailable
from tagferry.http.explanation import one_line
from tagferry.remote.transport.endpoint import Credentials

_OUTPUT_LIMIT = 64 * 1024
"""Maximum size of a helper's output, and of the part of its standard error that is read."""
_END_SECONDS = 5.0
_TOKEN_USER = "<token>"  # noqa: S105 - how helpers mark an identity token
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_NOT_FOUND = "not found"
_MAX_OBJECTS = 16
"""Maximum number of JSON objects that are tried in a helper's output."""
_OBJECT = re.compile(r"^\s*{", re.MULTILINE)
_DECODER = json.JSONDecoder()


class HelperFailed(Unavailable):
    """A credential helper cannot provide credentials at present, for example because its own login has expired."""


async def ask_helper(helper: str, key: str, *, timeout: float) -> Credentials | None:
    """Get the credentials stored under a key from a credential helper; None if it has none.

    Args:
        helper: the part of the program's name after `docker-credential-`.
        key: the server's URL or host, as docker stores it.
        timeout: seconds that the helper may take.

    Raises:
        HelperFailed: the helper fails or takes too long.
        Refused: the helper is not installed, or returns no credentials.
    """
    if not _NAME.fullmatch(helper):
        raise Refused(f'credential helper "{helper}" must be named by letters, digits, "-", "_" and "."')
    name = f"docker-credential-{helper}"
    program = await asyncio.to_thread(shutil.which, name)
    if program is None:
        raise Refused(f"credential helper {name} is not installed; put it on the PATH of tagferry")
    code, output, complaint = await _run(name, program, key, timeout)
    if code != 0:
        # Helpers report errors on standard output.
        reported = _readable(output) or _readable(complaint)
        if _NOT_FOUND in reported.lower():
            return None
        reason = f": {reported}" if reported else ""
        raise HelperFailed(f"credential helper {name} failed for {key} with exit code {code}{reason}")
    return _read(name, output)


async def _run(name: str, program: str, key: str, timeout: float) -> tuple[int, bytes, bytes]:
    """Run a helper; return its exit code, its output, and the beginning of its standard error."""
    try:
        with _pipe_with(key) as question:
            process = await asyncio.create_subprocess_exec(
                program,
                "get",
                stdin=question,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
    except OSError as error:
        raise Refused(f"credential helper {name} cannot be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(timeout):
            outputs = await _read_outputs(process)
            return await process.wait(), *outputs
    except TimeoutError:
        await _kill(process)
        raise HelperFailed(f"credential helper {name} did not answer within {timeout:g} seconds") from None
    except ValueError:
        await _kill(process)
        raise HelperFailed(f"credential helper {name} wrote more than {_OUTPUT_LIMIT} bytes") from None
    except BaseException:
        await _kill(process)
        raise


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill a helper and its child processes, which may hold its outputs open."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            # The rest of the pipes is read so that they close.
            await process.communicate()


@contextmanager
def _pipe_with(key: str) -> Iterator[int]:
    """Yield the read end of a pipe that holds a key.

    It is filled before the helper starts, because the helper may exit without reading it.
    """
    reading, writing = os.pipe()
    try:
        # A pipe holds at least 4 KiB (pipe(7)); a host name has at most 253 characters.
        os.write(writing, key.encode()[:4096])
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


async def _read_outputs(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    stdout, stderr = process.stdout, process.stderr
    if stdout is None or stderr is None:
        raise AssertionError("both are pipes")
    reading = [asyncio.ensure_future(_read_bounded(stdout)), asyncio.ensure_future(_read_beginning(stderr))]
    try:
        output, complaint = await asyncio.gather(*reading)
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    return output, complaint


async def _read_beginning(stream: asyncio.StreamReader) -> bytes:
    """Read a stream to its end; return its beginning."""
    read = bytearray()
    while chunk := await stream.read(8192):
        read += chunk[: max(0, _OUTPUT_LIMIT - len(read))]
    return bytes(read)


async def _read_bounded(stream: asyncio.StreamReader) -> bytes:
    """Read a stream to its end; raise ValueError if it is too long."""
    read = bytearray()
    while chunk := await stream.read(8192):
        read += chunk
        if len(read) > _OUTPUT_LIMIT:
            raise ValueError("too long")
    return bytes(read)


def _read(name: str, output: bytes) -> Credentials | None:
    document = _answer(output)
    username, secret = document.get("Username"), document.get("Secret")
    if not isinstance(username, str) or not isinstance(secret, str):
        raise Refused(f"credential helper {name} returned no credentials; run it with `get` to see its output")
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret)
    return Credentials(username=username, password=secret) if username else None


def _answer(output: bytes) -> dict[str, Any]:
    """Return the first JSON object that begins a line: some helpers print warnings and notices around it."""
    text = output.decode("utf-8-sig", "replace")
    for start in islice(_OBJECT.finditer(text), _MAX_OBJECTS):
        try:
            document, _ = _DECODER.raw_decode(text, start.end() - 1)
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            return document
    return {}


def _readable(output: bytes) -> str:
    """Return a helper's error output as one line; an empty string if it may hold a secret."""
    text = output.decode(errors="replace")
    if re.search(r"secret|password|token\"?\s*[:=]", text, re.IGNORECASE) and re.search(r"[{=]", text):
        return ""
    return one_line(text)

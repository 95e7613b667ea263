"""A stream is yielded completely only if its digest and size match."""

import hashlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagferry.errors import Corrupt
from tagferry.names import Digest
from tagferry.oci.model import Descriptor
from tagferry.oci.verify import Verifier, verified

chunk_lists = st.lists(st.binary(max_size=8), max_size=6)


def descriptor(content: bytes, *, size: int | None = None, algorithm: str = "sha256") -> Descriptor:
    digest = Digest.of(content, algorithm)
    return Descriptor("application/octet-stream", digest, len(content) if size is None else size)


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def receive(chunks: AsyncIterator[bytes], target: Descriptor | None = None) -> tuple[bytes, Corrupt | None]:
    """Return the bytes yielded, and the error that ended the stream."""
    received = b""
    try:
        async for chunk in verified(chunks, target) if target else chunks:
            received += chunk
    except Corrupt as error:
        return received, error
    return received, None


@given(chunk_lists, st.sampled_from(["sha256", "sha512"]))
async def test_matching_content_is_yielded_completely(chunks, algorithm):
    content = b"".join(chunks)
    assert await receive(stream(*chunks), descriptor(content, algorithm=algorithm)) == (content, None)


@given(chunk_lists, st.binary(max_size=20))
async def test_other_content_is_never_yielded_completely(chunks, wanted):
    content = b"".join(chunks)
    if content == wanted:
        return
    received, error = await receive(stream(*chunks), descriptor(wanted))
    assert error is not None
    assert len(received) < len(wanted) or not wanted
    assert content.startswith(received)


async def test_a_target_that_reports_more_bytes_than_it_got_is_sent_nothing():
    received, error = await receive(Verifier(descriptor(b"onetwo")).verify(stream(b"two"), offset=3))
    assert received == b""
    assert error is not None
    assert "the target reports 3 bytes" in error.message


async def test_the_last_chunk_is_held_back_if_the_digest_differs():
    received, error = await receive(stream(b"one", b"two"), descriptor(b"onetwx"))
    assert received == b"one"
    assert error is not None
    assert f"has content with the digest sha256:{hashlib.sha256(b'onetwo').hexdigest()}" in error.message


async def test_an_empty_chunk_at_the_end_does_not_release_the_last_bytes():
    received, error = await receive(stream(b"one", b"two", b""), descriptor(b"onetwx"))
    assert (received, error is None) == (b"one", False)


async def test_bytes_beyond_the_size_end_the_stream_before_the_size_is_reached():
    received, error = await receive(stream(b"one", b"two", b"!"), descriptor(b"onetwo"))
    assert received == b"one"
    assert error is not None
    assert "is longer than its 6 bytes" in error.message


async def test_a_stream_that_is_too_long_is_not_read_to_its_end():
    pulled = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            pulled.append(1)
            yield b"12345678"

    _, error = await receive(endless(), descriptor(b"12345678" * 2))
    assert error is not None
    assert len(pulled) == 3


async def test_a_stream_that_ends_early_is_corrupt():
    received, error = await receive(stream(b"one", b"tw"), descriptor(b"onetwo"))
    assert received == b"one"
    assert error is not None
    assert "ended after 5 of its 6 bytes" in error.message


async def test_an_empty_blob_is_verified_too():
    assert await receive(stream(), descriptor(b"")) == (b"", None)
    _, error = await receive(stream(), descriptor(b"x", size=0))
    assert error is not None


async def test_an_empty_stream_for_a_blob_is_corrupt():
    _, error = await receive(stream(), descriptor(b"x"))
    assert error is not None
    assert "ended after 0 of its 1 bytes" in error.message


def test_a_verifier_counts_received_bytes():
    verifier = Verifier(descriptor(b"onetwo"))
    verifier.update(b"one")
    assert verifier.received == 3
    verifier.update(b"two")
    verifier.finish()


@pytest.mark.parametrize("rest", [b"two", b"tw", b"two!", b""])
async def test_after_bytes_of_another_process_the_size_is_verified(rest: bytes):
    verifier = Verifier(descriptor(b"onetwo"), start=3)
    received, error = await receive(verifier.verify(stream(*(bytes([byte]) for byte in rest)), offset=3))
    assert (error is None) is (len(rest) == 3)
    assert len(received) < 3 or error is None

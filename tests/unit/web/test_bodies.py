"""The cost of parsing a request is limited before it is parsed."""

import pytest

from tagferry import bounds
from tagferry.errors import TooLarge, WrongType
from tagferry.web.bodies import Body, check_head, check_json


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_a_body_may_be_nested_up_to_the_bound():
    check_json(nested(bounds.JSON_DEPTH))
    check_json(b"[" + b",".join([nested(bounds.JSON_DEPTH - 1)] * 20) + b"]")
    check_json(b'{"a": "' + b"[" * 100 + b'\\"{{", "b": 1}')

    for body in (
        nested(bounds.JSON_DEPTH + 1),
        b'{"a":' * (bounds.JSON_DEPTH + 1),
        b'["\\"]", ' + nested(bounds.JSON_DEPTH),
        b"[" * 20_000,
    ):
        with pytest.raises(WrongType, match="body must be JSON that is nested at most 64 levels deep"):
            check_json(body)


def test_a_body_has_at_most_so_many_parts():
    check_json(b"[" + b"1," * (bounds.BODY_STRUCTURAL_CHARACTERS - 1))

    for body in (b"[" + b"1," * bounds.BODY_STRUCTURAL_CHARACTERS, b'"' * 60_000, b"{}" * 60_000):
        with pytest.raises(
            WrongType, match="body must be JSON that has at most 50000 brackets, commas and quotation marks"
        ):
            check_json(body)


def test_a_path_and_a_query_may_be_as_long_as_the_bounds():
    query = b"&".join([b"a=1"] * bounds.QUERY_PARAMETERS)
    check_head({"raw_path": b"/" * bounds.PATH_BYTES, "query_string": query})

    with pytest.raises(TooLarge, match="path must be at most 8192 bytes: got 8193"):
        check_head({"raw_path": b"/" * (bounds.PATH_BYTES + 1), "query_string": b""})
    with pytest.raises(TooLarge, match="query must have at most 200 parameters: got 201"):
        check_head({"raw_path": b"/", "query_string": query + b"&"})


async def test_a_length_of_any_number_of_digits_is_compared_and_not_computed():
    async def receive():
        raise AssertionError("nothing of the body is read")

    body = Body({"headers": [(b"content-length", b"9" * 60_000)]}, receive, 1024)

    with pytest.raises(TooLarge, match="body must be at most 1024 bytes"):
        await body.read()


async def test_a_body_is_read_once():
    messages = [{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.request", "body": b"b"}]

    async def receive():
        return messages.pop(0)

    body = Body({"headers": []}, receive, 1024)

    assert [await body.read(), await body.read()] == [b"ab", b"ab"]

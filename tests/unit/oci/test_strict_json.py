"""Untrusted JSON cannot take much more memory than its bytes."""

import pytest

from tagferry import bounds
from tagferry.errors import Invalid
from tagferry.oci.strict_json import parse_object


@pytest.mark.parametrize("value", [b"{}", b"[]", b"0", b'{"a":0}'])
def test_a_document_of_too_many_values_is_refused_before_it_is_parsed(value: bytes):
    raw = b'{"a":[%s]}' % b",".join([value] * (bounds.JSON_VALUES + 1))
    with pytest.raises(Invalid, match=f"must hold at most {bounds.JSON_VALUES} values"):
        parse_object(raw, field="manifest")


def test_a_document_at_the_limit_of_values_is_read():
    raw = b'{"a":[%s]}' % b",".join([b"0"] * (bounds.JSON_VALUES - 2))
    assert len(parse_object(raw, field="manifest")["a"]) == bounds.JSON_VALUES - 2


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b'{"a": "\\ud800"}', "halves of surrogate pairs"),
        (b'{"a": "\\udc00\\ud83d"}', "halves of surrogate pairs"),
        (b'{"a": ' + b"1" * 50_000 + b"}", "thousands of digits"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "levels deep"),
        (b'{"a": 1', "must be JSON in UTF-8"),
        (b'{"a": "\xff"}', "must be JSON in UTF-8"),
    ],
    ids=["half", "wrong order", "digits", "depth", "cut", "bytes"],
)
def test_an_error_names_the_violated_rule(text: bytes, rule: str):
    with pytest.raises(Invalid, match=rule):
        parse_object(text, field="manifest")

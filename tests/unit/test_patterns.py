"""Regular expressions from users: accepted and refused patterns, and bounded matching time."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagferry.errors import Invalid
from tagferry.patterns import Pattern


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (".*", "v1.2", True),
        ("v1", "v1", True),
        ("v1", "v1.2", False),
        ("v1|v2", "v2.0", False),
        (r"v\d+(\.\d+)*", "v1.20.3", True),
        (r"(?i)RELEASE-.+", "release-7", True),
        ("日本", "日本", True),
    ],
)
def test_a_pattern_matches_a_whole_text(pattern, text, matches):
    assert Pattern(pattern).matches(text) is matches


@pytest.mark.parametrize(
    ("pattern", "text", "other"),
    [
        (r"^123$", "123", "1234"),
        (r"release", "v1-release-2", "v1"),
        (r"^v\d+\.\d+\.\d+$", "v1.20.3", "v1.20"),
        (r"^(\d{1,3}\.){3}\d{1,3}$", "10.0.0.1", "10.0.0"),
        (r"(?i)STABLE|lts", "stable", "edge"),
        (r"^[0-9a-f]{40}$", "a" * 40, "a" * 41),
    ],
)
def test_a_pattern_is_found_in_any_part_of_a_text(pattern, text, other):
    assert Pattern(pattern).is_found_in(text)
    assert not Pattern(pattern).is_found_in(other)


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [
        ("", "must be 1 to 256 characters long"),
        ("a" * 257, "must be 1 to 256 characters long"),
        ("a(", "missing )"),
        ("(?=a)b", "invalid perl operator: (?="),
        (r"(a)\1", r"invalid escape sequence: \1"),
        ("((a{100}){100}){100}", "invalid repetition size"),
        (r"(\pL{1,30}){1,30}" * 10, "pattern too large"),
        ("a\0b", "must not contain NUL"),
        ("\ud800", "must consist of Unicode characters"),
    ],
)
def test_an_invalid_pattern_is_refused_by_its_field_and_the_rule(pattern, rule):
    with pytest.raises(Invalid) as refusal:
        Pattern(pattern, field="condition")

    assert refusal.value.field == "condition"
    assert rule in refusal.value.rule


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)+b", "(a?){60}a{60}b", "(.*)*(.*)*(.*)*b"])
def test_a_pattern_that_would_backtrack_exponentially_ends(pattern):
    assert not Pattern(pattern).matches("a" * 128)
    assert Pattern(pattern + "$").is_found_in("a" * 127 + "!") is False


@given(pattern=st.text(st.sampled_from(r"ab0-^$.*+?|()[]{},\dwpLxz:=!<>"), min_size=1, max_size=24))
def test_any_text_is_refused_or_works_as_a_pattern(pattern):
    with suppress(Invalid):
        held = Pattern(pattern)
        assert held.is_found_in("v1.0-ab") or not held.matches("v1.0-ab")


def test_a_refusal_is_raised_and_not_logged(capfd):
    with pytest.raises(Invalid):
        Pattern("a(")

    assert capfd.readouterr() == ("", "")

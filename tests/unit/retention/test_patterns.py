from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagferry.errors import Invalid
from tagferry.retention.patterns import TagPattern


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        (r"^123$", "123", "1234"),
        (r"release", "v1-release-2", "v1"),
        (r"^v\d+\.\d+\.\d+$", "v1.20.3", "v1.20"),
        (r"^(\d{1,3}\.){3}\d{1,3}$", "10.0.0.1", "10.0.0"),
        (r"^[0-9]{8}-[0-9]{6}-[0-9a-f]{8}$", "20260101-120000-0badcafe", "20260101-120000"),
        (r"(?i)STABLE|lts", "stable", "edge"),
        (r"^[0-9a-f]{40}$", "a" * 40, "a" * 41),
    ],
)
def test_an_expression_matches_where_it_is_found_in_the_tag(pattern: str, matching: str, other: str):
    found = TagPattern(pattern)
    assert found.matches(matching)
    assert not found.matches(other)


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a*)*b", r"(a|aa)+$", r"(.*a){12}b", r"(x+x+)+y", r"a{0,900}b"])
def test_what_keeps_other_engines_busy_for_ages_is_answered(pattern: str):
    assert TagPattern(pattern).matches("a" * 127 + "!") is False


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(", "unclosed group"),
        ("*", "repetition operator missing expression"),
        ("[z-a]", "invalid character class range"),
        (r"(?=v)", "look-around"),
        (r"(v)\1", "backreferences"),
        ("", "must be 1 to 256 printable ASCII characters"),
        ("a b", "without spaces"),
        ("a\n", "without spaces"),
        ("версия", "printable ASCII"),
        ("a" * 257, "must be 1 to 256"),
        (r"((a?){50}){50}", "must not repeat parts into more than 1000"),
        (r"a?{50}{50}", "must not repeat parts"),
        (r"[ab]{1001}", "must not repeat parts"),
        (r"(a{5,}){,300}", "must not repeat parts"),
        (r"\w{250}", "exceeds size limit"),
    ],
)
def test_what_is_no_safe_expression_is_refused_by_what_is_wrong(pattern: str, told: str):
    with pytest.raises(Invalid, match=r"^rules\[0\]\.pattern must") as refused:
        TagPattern(pattern, field="rules[0].pattern")
    assert told in refused.value.message


@given(pattern=st.text(st.sampled_from(r"ab0-^$.*+?|()[]{},\dwpLxz:=!<>"), min_size=1, max_size=24))
def test_whatever_is_given_is_refused_or_tells_of_every_tag_whether_it_matches(pattern: str):
    with suppress(Invalid):
        found = TagPattern(pattern)
        assert {found.matches("a" * 128), found.matches("v1.0-ab")} <= {True, False}

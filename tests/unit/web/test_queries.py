"""SWR's filters, pages and sort orders are read as documented."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagferry.errors import Invalid, InvalidFilter
from tagferry.web.formats import number
from tagferry.web.swr.queries import Page, is_descending, parse_filter


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, {}),
        ("", {}),
        ("|", {}),
        ("limit::5", {"limit": "5"}),
        ("limit::5|offset::10|order::desc", {"limit": "5", "offset": "10", "order": "desc"}),
        ("|limit::5|", {"limit": "5"}),
        ("name::", {"name": ""}),
        ("name::a::b", {"name": "a::b"}),
        ("limit::1|limit::2", {"limit": "2"}),
    ],
)
def test_a_filter_is_read_part_by_part(text: str | None, found: dict[str, str]) -> None:
    assert parse_filter(text) == found


@pytest.mark.parametrize("text", ["limit", "limit:5", "::5", "limit::5|order", "=", " "])
def test_a_filter_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidFilter, match="filter must have the form name::value"):
        parse_filter(text)


@given(st.text())
def test_any_filter_is_read_or_refused(text: str) -> None:
    try:
        found = parse_filter(text)
    except InvalidFilter:
        return
    assert all(name and "|" not in name + value for name, value in found.items())


def test_a_page_has_a_hundred_entries_unless_told() -> None:
    assert Page.parse({}) == Page(limit=100, offset=0)
    assert Page.parse({"limit": "", "offset": None}) == Page(limit=100, offset=0)
    assert Page.parse({"limit": "1000", "offset": "7"}) == Page(limit=1000, offset=7)


@pytest.mark.parametrize(
    "parameters",
    [{"limit": "0"}, {"limit": "1001"}, {"limit": "-1"}, {"offset": "-1"}, {"offset": "1.5"}, {"limit": "٣"}],
)
def test_a_page_out_of_bounds_is_refused_by_its_parameter(parameters: dict[str, str | None]) -> None:
    (name,) = parameters
    with pytest.raises(Invalid, match=f"^{name} must be"):
        Page.parse(parameters)


def test_the_content_range_tells_offset_count_and_total() -> None:
    assert Page(limit=10, offset=20).content_range(count=3, total=23) == {"Content-Range": "20-3/23"}


def test_a_sort_order_is_one_of_two() -> None:
    assert [is_descending({"order": value}, "order", default=True) for value in ("asc", "desc", "", None)] == [
        False,
        True,
        True,
        True,
    ]
    with pytest.raises(Invalid, match="order must be asc or desc"):
        is_descending({"order": "up"}, "order", default=True)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_an_id_is_positive_and_fits_into_31_bits(names: list[str]) -> None:
    made = number(*names)
    assert 0 <= made < 2**31
    assert made == number(*names)

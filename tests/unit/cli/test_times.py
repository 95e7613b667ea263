"""Times as options: absolute, or an age."""

from datetime import UTC, datetime, timedelta

import pytest

from tagferry.cli.times import parse_time, show_time
from tagferry.errors import Invalid


def test_a_time_is_given_as_such_or_as_an_age() -> None:
    now = datetime.now(UTC)

    assert parse_time("--since", "") == ""
    assert parse_time("--since", "2024-05-06T07:08:09Z") == "2024-05-06T07:08:09+00:00"
    assert now - timedelta(days=8) < datetime.fromisoformat(parse_time("--since", "7d")) < now - timedelta(days=6)


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (datetime(2024, 5, 6, 7, 8, 9, 123456, UTC), "2024-05-06T07:08:09Z"),
        ("2024-05-06T09:08:09.123456+02:00", "2024-05-06T07:08:09Z"),
        ("2024-05-06T07:08:09.000000Z", "2024-05-06T07:08:09Z"),
        ("0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00+01:00"),
        ("soon\x1b", "soon\\x1b"),
        ("", ""),
        (None, ""),
    ],
)
def test_all_times_are_shown_in_one_form_that_options_accept(moment: datetime | str | None, shown: str) -> None:
    assert show_time(moment) == shown
    if shown.endswith("Z"):
        assert parse_time("--since", shown) == shown.replace("Z", "+00:00")


@pytest.mark.parametrize("given", ["yesterday", "24x", "-1h", "999999w", "2024-13-01", "٣h"])
def test_another_text_is_refused_with_the_name_of_the_option(given: str) -> None:
    with pytest.raises(Invalid, match=f'^--since must be an age .*: got "{given}"$'):
        parse_time("--since", given)

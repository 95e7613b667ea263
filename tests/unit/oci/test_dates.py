from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagferry.oci.dates import date_from_timestamp, parse_date
from tagferry.web.formats import date

SEVEN = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2024-05-06T07:08:09Z", SEVEN),
        ("2024-05-06t07:08:09z", SEVEN),
        ("2024-05-06 07:08:09Z", SEVEN),
        ("2024-05-06T07:08:09", SEVEN),
        ("2024-05-06T15:08:09+08:00", SEVEN),
        ("2024-05-06T15:08:09+0800", SEVEN),
        ("2024-05-05T21:08:09-10:00", SEVEN),
        ("2024-05-06T07:08:09-00:00", SEVEN),
        ("2024-05-06T07:08:09.1Z", SEVEN.replace(microsecond=100_000)),
        ("2024-05-06T07:08:09.123456Z", SEVEN.replace(microsecond=123_456)),
        ("2024-05-06T07:08:09.123456789Z", SEVEN.replace(microsecond=123_456)),
        ("2024-05-06T07:08:09.999999999999999Z", SEVEN.replace(microsecond=999_999)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2017-01-01T07:59:60.5+08:00", datetime(2017, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_rfc_3339_dates_are_read_in_utc(written: str, moment: datetime):
    assert parse_date(written) == moment


@pytest.mark.parametrize(
    "written",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+08:00",
        "0001-01-01T00:00:00-10:00",
        "0000-00-00T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-10:00",
        "9999-12-31T23:59:60Z",
        "1970-01-01T00:00:00Z",
        "1980-01-01T00:00:01Z",
        "-0001-01-01T00:00:00Z",
        "-62135596800",
        "10000-01-01T00:00:00Z",
        "2024-13-06T07:08:09Z",
        "2024-05-06T24:08:09Z",
        "2024-05-06T07:08:61Z",
        "2024-05-06T07:08:09+24:00",
        "2024-05-06T07:08:09+08:60",
        "2024-05-06T07:08:09+08:00Z",
        "٢٠٢٤-05-06T07:08:09Z",
        "2024-05-06T07:08:09." + "1" * 100_000,
        "",
        "soon",
        None,
        True,
        0,
        1714979289,
        float("nan"),
        ["2024-05-06T07:08:09Z"],
        {"created": "2024-05-06T07:08:09Z"},
    ],
)
def test_zero_times_placeholders_and_invalid_dates_are_unknown(written: object):
    assert parse_date(written) is None


def test_a_date_may_be_ahead_by_as_much_as_clocks_differ():
    ahead = datetime.now(UTC) + timedelta(minutes=5)
    assert parse_date(ahead.isoformat()) == ahead
    assert parse_date((ahead + timedelta(days=2)).isoformat()) is None


@pytest.mark.parametrize("seconds", [0, -1, 1e18, -1e18, float("nan"), float("inf")])
def test_an_implausible_file_time_is_unknown(seconds: float):
    assert date_from_timestamp(seconds) is None
    assert date_from_timestamp(SEVEN.timestamp()) == SEVEN


DATES = st.datetimes(timezones=st.timezones() | st.none(), allow_imaginary=False).map(lambda one: one.isoformat())
NEARLY = st.from_regex(r"[0-9-]{4,6}-[0-9]{2}-[0-9]{2}[Tt ][0-9:]{8}(\.[0-9]{0,12})?([Zz]|[+-][0-9:]{4,5})?\Z")


@given(st.text() | DATES | NEARLY | st.none() | st.integers() | st.floats() | st.lists(st.text(max_size=3)))
def test_any_text_is_a_valid_date_or_unknown(value: object):
    moment = parse_date(value)

    assert moment is None or moment.utcoffset() == timedelta(0)
    assert datetime.fromisoformat(date(moment)).tzinfo is not None
    assert parse_date(date(moment)) == moment

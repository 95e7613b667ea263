import pytest

from tagferry.digits import whole_number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_digits_are_parsed_as_a_number(text: str, number: int):
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1.0", "1e3", "1_0", "\u0661", "\u00b2", "9" * 19, "9" * 5000])
def test_anything_else_is_none(text: str):
    assert whole_number(text) is None

from tests.bounds_page import PAGE, written


def test_the_page_of_limits_lists_every_bound_and_setting_as_it_is():
    page = PAGE.read_text("utf-8")
    assert page == written(page), "docs/limits.md is out of date; write it with: python -m tests.bounds_page"

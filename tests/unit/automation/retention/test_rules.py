"""Which tags go by which rule: from tags and rules as plain data."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tagferry.automation.retention.rules import ObservedTag, RuleSet, expired_tags
from tagferry.errors import Invalid
from tagferry.names import Digest, Tag
from tagferry.oci.images import TagRecord

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)


def rule(template: str, number: object, *exceptions: tuple[str, str]) -> dict[str, Any]:
    name = {"date_rule": "days", "tag_rule": "num"}.get(template, "days")
    selectors = [{"kind": kind, "pattern": pattern} for kind, pattern in exceptions]
    return {"template": template, "params": {name: number}, "tag_selectors": selectors}


def tag(name: str, *, days: float, built: float | None = None, attached: bool = False) -> tuple[TagRecord, ObservedTag]:
    """A tag that was pushed so many days ago, with an image that was built so many days ago, if that is known."""
    digest = Digest.of(name.encode())
    pushed_at = NOW - timedelta(days=days)
    built_at = None if built is None else NOW - timedelta(days=built)
    return TagRecord(Tag(name), digest), ObservedTag(digest, pushed_at, built_at, is_attached_artifact=attached)


def gone(tags: list[tuple[TagRecord, ObservedTag]], *rules: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one.record.tag, one.template.value) for one in expired_tags(dict(tags), RuleSet.parse(rules).rules, NOW)]


NO_NUMBERS: list[object] = ["", "-1", "1.5", "x", "1e3", "٣", "9" * 400, 1.5, True, -1, [1], {}]
FIVE = [tag(f"v{n}", days=n) for n in range(1, 6)]


def test_what_was_pushed_before_so_many_days_goes():
    assert gone(FIVE, rule("date_rule", "3")) == [("v5", "date_rule"), ("v4", "date_rule")]
    assert gone(FIVE, rule("date_rule", "5")) == []
    assert gone([], rule("date_rule", "1")) == []


def test_all_but_so_many_of_the_newest_go():
    assert gone(FIVE, rule("tag_rule", "2")) == [(name, "tag_rule") for name in ("v5", "v4", "v3")]
    assert gone(FIVE, rule("tag_rule", "5")) == []
    assert gone(FIVE, rule("tag_rule", "1000")) == []
    assert gone([], rule("tag_rule", "1")) == []


def test_exceptions_stay_and_do_not_count():
    by_name, by_expression = ("label", "v1"), ("regexp", "^v[45]$")
    assert gone(FIVE, rule("date_rule", "1", by_expression)) == [("v3", "date_rule"), ("v2", "date_rule")]
    assert gone(FIVE, rule("tag_rule", "1", by_name, by_expression)) == [("v3", "tag_rule")]
    assert gone(FIVE, rule("tag_rule", "1", ("regexp", "v"))) == []


def test_a_name_is_excepted_only_as_a_whole_and_in_its_case():
    tags = [tag("v1", days=9), tag("v10", days=9), tag("V1", days=9)]
    assert gone(tags, rule("date_rule", "1", ("label", "v1"))) == [("V1", "date_rule"), ("v10", "date_rule")]


def test_a_tag_goes_if_any_rule_lets_it_go_and_is_told_by_the_first():
    rules = rule("tag_rule", "4"), rule("date_rule", "3")
    assert gone(FIVE, *rules) == [("v5", "tag_rule"), ("v4", "date_rule")]
    excepting = rule("date_rule", "1", ("regexp", ".")), rule("tag_rule", "4")
    assert gone(FIVE, *excepting) == [("v5", "tag_rule")]


def test_signatures_and_the_like_neither_count_nor_go():
    signature = tag("sha256-" + "a" * 64 + ".sig", days=400, attached=True)
    newest = tag("sbom", days=0, attached=True)
    assert gone([*FIVE, signature, newest], rule("tag_rule", "4")) == [("v5", "tag_rule")]
    assert [name for name, _ in gone([*FIVE, signature], rule("date_rule", "4"))] == ["v5"]


def test_what_was_first_seen_together_is_told_apart_by_when_it_was_built():
    together = [tag("new", days=1, built=2), tag("old", days=1, built=30), tag("later", days=0, built=99)]
    assert gone(together, rule("tag_rule", "2")) == [("old", "tag_rule")]
    assert gone(together, rule("tag_rule", "1")) == [("old", "tag_rule"), ("new", "tag_rule")]


def test_what_cannot_be_told_from_the_last_that_stays_stays_too():
    alike = [tag(f"v{n}", days=1, built=1) for n in range(4)]
    assert gone(alike, rule("tag_rule", "1")) == []
    assert gone([*alike, tag("new", days=0)], rule("tag_rule", "2")) == []
    assert len(gone([*alike, tag("new", days=0)], rule("tag_rule", "1"))) == 4


def test_what_has_no_known_date_does_not_go_for_that_and_takes_no_place_of_others():
    together = [tag("new", days=1, built=2), tag("old", days=1, built=30), tag("unknown", days=1)]
    assert gone(together, rule("tag_rule", "1")) == [("old", "tag_rule")]
    assert gone(together, rule("tag_rule", "2")) == []
    assert gone([*together, tag("later", days=0)], rule("tag_rule", "2")) == [("old", "tag_rule")]
    assert len(gone([*together, tag("later", days=0)], rule("tag_rule", "1"))) == 3
    assert gone(together, rule("date_rule", "1")) == []


def test_a_rule_is_kept_in_one_form_however_it_was_sent():
    sent = rule("date_rule", 30, ("label", "v1"))
    sent["params"]["num"] = "5"
    read = RuleSet.parse([sent, rule("tag_rule", "007")])
    assert read.documents == [rule("date_rule", "30", ("label", "v1")), rule("tag_rule", "7")]
    assert [one.number for one in read.rules] == [30, 7]
    assert RuleSet.parse(read.documents).documents == read.documents


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([], "rules must hold 1 to 10 rules: got 0"),
        ([rule("tag_rule", "1")] * 11, "rules must hold 1 to 10 rules: got 11"),
        ([rule("size_rule", "1")], 'rules[0].template must be date_rule or tag_rule: got "size_rule"'),
        ([rule("date_rule", "0")], 'rules[0].params.days must be a whole number from 1 to 365: got "0"'),
        ([rule("date_rule", "366")], "rules[0].params.days must be a whole number from 1 to 365"),
        ([rule("tag_rule", "1"), rule("tag_rule", 1001)], "rules[1].params.num must be a whole number from 1 to 1000"),
        *(([rule("tag_rule", number)], "rules[0].params.num must be a whole number") for number in NO_NUMBERS),
        ([rule("tag_rule", None)], "rules[0].params.num is mandatory"),
        ([{**rule("tag_rule", "1"), "params": {"days": "3"}}], "rules[0].params.num is mandatory"),
        (
            [rule("tag_rule", "1", ("glob", "v*"))],
            'rules[0].tag_selectors[0].kind must be label or regexp: got "glob"',
        ),
        ([rule("tag_rule", "1", ("label", "a b"))], "rules[0].tag_selectors[0].pattern must start with a letter"),
        (
            [rule("tag_rule", "1", ("label", "a"), ("regexp", "("))],
            "rules[0].tag_selectors[1].pattern must be a regular",
        ),
        ([rule("tag_rule", "1", *[("label", "a")] * 51)], "rules[0].tag_selectors must hold at most 50: got 51"),
        (
            [rule("tag_rule", "1", *[("regexp", "a")] * 21)],
            "rules must hold at most 20 tag_selectors of the kind regexp",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused_by_its_place(rules: list[dict[str, Any]], told: str):
    with pytest.raises(Invalid) as refused:
        RuleSet.parse(rules)
    assert refused.value.message.startswith(told)

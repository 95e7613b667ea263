"""Retention rules, and the tags that expire by them.

This module does no I/O. The rules are SWR's, from its API reference and user guide: a tag expires if any rule selects
it; the exceptions of a rule apply to that rule only.
"""

from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from tagferry.errors import Invalid, MissingField
from tagferry.names import Digest, Tag
from tagferry.oci.images import TagRecord
from tagferry.patterns import Pattern

MAX_RULES = 10
"""Maximum number of rules in a policy."""
MAX_SELECTORS = 50
"""Maximum number of exceptions in a rule."""
MAX_PATTERNS = 20
"""Maximum number of regular expressions in all rules of a policy."""

_LABEL, _REGEXP = "label", "regexp"


class Template(StrEnum):
    """The kind of a rule."""

    DATE = "date_rule"
    """Deletes tags pushed more than the given number of days ago."""
    TAG = "tag_rule"
    """Deletes all but the given number of newest tags."""


_PARAMETERS = {Template.DATE: ("days", 365), Template.TAG: ("num", 1000)}
"""The parameter of each kind of rule, and its maximum."""


@dataclass(frozen=True, slots=True)
class ObservedTag:
    """The properties of a tag that rules use, valid while it points to this digest.

    pushed_at: when it was pushed, or when it was first seen if the registry does not report that.
        built_at: when its image was built, if known; orders tags that were first seen together.
        is_attached_artifact: whether it is a signature or another artifact attached to an image.
    """

    digest: Digest
    pushed_at: datetime
    built_at: datetime | None
    is_attached_artifact: bool = False


@dataclass(frozen=True, slots=True)
class ExpiredTag:
    """A tag to delete, as it was observed, and the kind of rule by which it expired."""

    record: TagRecord
    template: Template


@dataclass(frozen=True, slots=True)
class Rule:
    """A retention rule.

    Attributes:
        number: the number of days or tags, by the template.
        labels: tags to skip.
        patterns: regular expressions; tags that contain a match are skipped.
    """

    template: Template
    number: int
    labels: frozenset[str] = frozenset()
    patterns: tuple[Pattern, ...] = ()

    def select(self, images: Mapping[TagRecord, ObservedTag], now: datetime) -> list[TagRecord]:
        """Return the tags that expire by this rule.

        A rule by number selects a tag only if at least that many others are certainly newer.
        """
        mine = {record: observed for record, observed in images.items() if not self._excepts(record.tag)}
        if self.template is Template.DATE:
            end = now - timedelta(days=self.number)
            return [record for record, observed in mine.items() if observed.pushed_at < end]
        newer = _newer_than(mine.values())
        return [record for record, observed in mine.items() if newer(observed) >= self.number]

    def _excepts(self, tag: Tag) -> bool:
        return tag in self.labels or any(pattern.is_found_in(tag) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of a policy.

    Attributes:
        documents: the rules in SWR's JSON form, normalized.
    """

    documents: list[dict[str, Any]]
    rules: tuple[Rule, ...]

    @classmethod
    def parse(cls, documents: Sequence[Mapping[str, Any]]) -> Self:
        """Parse rules in SWR's JSON form, after the types of all fields but `params` have been checked.

        Compiling large expressions takes tenths of a second: call it in a thread.

        Raises:
            Invalid: a field breaks a rule; the message names both.
        """
        if not 1 <= len(documents) <= MAX_RULES:
            raise Invalid("rules", f"must hold 1 to {MAX_RULES} rules", len(documents))
        rules = tuple(_rule(document, f"rules[{place}]") for place, document in enumerate(documents))
        if (patterns := sum(len(rule.patterns) for rule in rules)) > MAX_PATTERNS:
            raise Invalid("rules", f"must hold at most {MAX_PATTERNS} tag_selectors of the kind {_REGEXP}", patterns)
        normalized = [_document(document, rule) for document, rule in zip(documents, rules, strict=True)]
        return cls(normalized, rules)


def expired_tags(seen: Mapping[TagRecord, ObservedTag], rules: Sequence[Rule], now: datetime) -> list[ExpiredTag]:
    """Return the tags of a repository that expire by a policy's rules, oldest first."""
    images = {record: observed for record, observed in seen.items() if not observed.is_attached_artifact}
    expired: dict[TagRecord, Template] = {}
    for rule in rules:
        for record in rule.select(images, now):
            expired.setdefault(record, rule.template)
    oldest_first = sorted(expired, key=lambda record: (*_age(images[record]), record.tag))
    return [ExpiredTag(record, expired[record]) for record in oldest_first]


def _document(document: Mapping[str, Any], rule: Rule) -> dict[str, Any]:
    name, _ = _PARAMETERS[rule.template]
    return {
        "template": rule.template.value,
        "params": {name: str(rule.number)},
        "tag_selectors": [
            {name: selector[name] for name in ("kind", "pattern")} for selector in document["tag_selectors"]
        ],
    }


def _rule(document: Mapping[str, Any], field: str) -> Rule:
    try:
        template = Template(document["template"])
    except ValueError:
        raise Invalid(f"{field}.template", f"must be {' or '.join(Template)}", document["template"]) from None
    selectors = document["tag_selectors"]
    if len(selectors) > MAX_SELECTORS:
        raise Invalid(f"{field}.tag_selectors", f"must hold at most {MAX_SELECTORS}", len(selectors))
    labels, patterns = [], []
    for index, selector in enumerate(selectors):
        where = f"{field}.tag_selectors[{index}]"
        if selector["kind"] == _LABEL:
            labels.append(Tag(selector["pattern"], field=f"{where}.pattern"))
        elif selector["kind"] == _REGEXP:
            patterns.append(Pattern(selector["pattern"], field=f"{where}.pattern"))
        else:
            raise Invalid(f"{where}.kind", f"must be {_LABEL} or {_REGEXP}", selector["kind"])
    return Rule(template, _number(document["params"], template, field), frozenset(labels), tuple(patterns))


def _number(parameters: Mapping[str, Any], template: Template, field: str) -> int:
    name, largest = _PARAMETERS[template]
    field = f"{field}.params.{name}"
    if (value := parameters.get(name)) is None:
        raise MissingField(field)
    text = str(value) if type(value) in (str, int) else ""
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= largest):
        raise Invalid(field, f"must be a whole number from 1 to {largest}", value)
    return int(text)


def _newer_than(observed_tags: Collection[ObservedTag]) -> Callable[[ObservedTag], int]:
    """Return a function that counts the tags newer than one: pushed later, or seen together with it and built later.

    A tag with an unknown build time is neither newer nor older than those it was seen together with.
    """
    pushed = sorted(one.pushed_at for one in observed_tags)
    built: dict[datetime, list[datetime]] = {}
    for one in observed_tags:
        if one.built_at is not None:
            insort(built.setdefault(one.pushed_at, []), one.built_at)

    def count(observed: ObservedTag) -> int:
        later = len(pushed) - bisect_right(pushed, observed.pushed_at)
        if observed.built_at is None:
            return later
        together = built[observed.pushed_at]
        return later + len(together) - bisect_right(together, observed.built_at)

    return count


def _age(observed: ObservedTag) -> tuple[datetime, datetime]:
    return observed.pushed_at, observed.built_at or observed.pushed_at

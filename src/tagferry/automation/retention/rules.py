"""What a retention policy says, and which tags go by it.

All of this is data and computation. The rules are SWR's, as its API reference and user guide tell of them: a tag goes
if any rule lets it go, and the exceptions of a rule are tags that this rule does not look at.
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
"""Rules that a policy may have."""
MAX_SELECTORS = 50
"""Exceptions that a rule may have."""
MAX_PATTERNS = 20
"""Regular expressions that a policy may have, in all its rules."""

_LABEL, _REGEXP = "label", "regexp"


class Template(StrEnum):
    """What kind of rule it is."""

    DATE = "date_rule"
    """What was pushed more than so many days ago goes."""
    TAG = "tag_rule"
    """All but so many of the newest tags go."""


_PARAMETERS = {Template.DATE: ("days", 365), Template.TAG: ("num", 1000)}
"""What the number of a kind of rule is called, and how large it may be."""


@dataclass(frozen=True, slots=True)
class ObservedTag:
    """What rules look at in a tag, for as long as it points to this digest.

    Attributes:
        pushed_at: when it was pushed, or first seen where its registry does not tell.
        built_at: when its image was built, if that is known; it orders tags that were first seen together.
        is_attachment: whether it is a signature or the like, which belongs to an image and is none itself.
    """

    digest: Digest
    pushed_at: datetime
    built_at: datetime | None
    is_attachment: bool = False


@dataclass(frozen=True, slots=True)
class ExpiredTag:
    """A tag that goes, as it was seen, and the kind of rule that lets it go."""

    record: TagRecord
    template: Template


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        number: days or tags, as the template says.
        labels: tags that it does not look at.
        patterns: what the names of other such tags have in them.
    """

    template: Template
    number: int
    labels: frozenset[str] = frozenset()
    patterns: tuple[Pattern, ...] = ()

    def select(self, images: Mapping[TagRecord, ObservedTag], now: datetime) -> list[TagRecord]:
        """Those of these tags that go by this rule.

        By number, a tag goes only where as many as may stay are newer for certain.
        """
        mine = {record: sighting for record, sighting in images.items() if not self._excepts(record.tag)}
        if self.template is Template.DATE:
            end = now - timedelta(days=self.number)
            return [record for record, sighting in mine.items() if sighting.pushed_at < end]
        newer = _newer_than(mine.values())
        return [record for record, sighting in mine.items() if newer(sighting) >= self.number]

    def _excepts(self, tag: Tag) -> bool:
        return tag in self.labels or any(pattern.is_found_in(tag) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """A policy's rules.

    Attributes:
        documents: as SWR's API has them, in the one form in which they are kept and shown.
    """

    documents: list[dict[str, Any]]
    rules: tuple[Rule, ...]

    @classmethod
    def parse(cls, documents: Sequence[Mapping[str, Any]]) -> Self:
        """Read rules as SWR's API has them, once the types of all fields but the parameters are known to be right.

        Large expressions take tenths of a second, so that it is for another thread than that of requests.

        Raises:
            Invalid: names the field and the rule that it breaks.
        """
        if not 1 <= len(documents) <= MAX_RULES:
            raise Invalid("rules", f"must hold 1 to {MAX_RULES} rules", len(documents))
        rules = tuple(_rule(document, f"rules[{place}]") for place, document in enumerate(documents))
        if (patterns := sum(len(rule.patterns) for rule in rules)) > MAX_PATTERNS:
            raise Invalid("rules", f"must hold at most {MAX_PATTERNS} tag_selectors of the kind {_REGEXP}", patterns)
        written = [_written(document, rule) for document, rule in zip(documents, rules, strict=True)]
        return cls(written, rules)


def expired_tags(seen: Mapping[TagRecord, ObservedTag], rules: Sequence[Rule], now: datetime) -> list[ExpiredTag]:
    """Which of a repository's tags go by a policy's rules, the oldest first."""
    images = {record: sighting for record, sighting in seen.items() if not sighting.is_attachment}
    gone: dict[TagRecord, Template] = {}
    for rule in rules:
        for record in rule.select(images, now):
            gone.setdefault(record, rule.template)
    oldest_first = sorted(gone, key=lambda record: (*_age(images[record]), record.tag))
    return [ExpiredTag(record, gone[record]) for record in oldest_first]


def _written(document: Mapping[str, Any], rule: Rule) -> dict[str, Any]:
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
    for place, selector in enumerate(selectors):
        where = f"{field}.tag_selectors[{place}]"
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
    """Count the sightings that are newer than one: pushed later, or seen together with it and built later.

    Where it is not known when an image was built, it is neither older nor newer than what it was seen together with.
    """
    pushed = sorted(one.pushed_at for one in observed_tags)
    built: dict[datetime, list[datetime]] = {}
    for one in observed_tags:
        if one.built_at is not None:
            insort(built.setdefault(one.pushed_at, []), one.built_at)

    def count(sighting: ObservedTag) -> int:
        later = len(pushed) - bisect_right(pushed, sighting.pushed_at)
        if sighting.built_at is None:
            return later
        together = built[sighting.pushed_at]
        return later + len(together) - bisect_right(together, sighting.built_at)

    return count


def _age(sighting: ObservedTag) -> tuple[datetime, datetime]:
    return sighting.pushed_at, sighting.built_at or sighting.pushed_at

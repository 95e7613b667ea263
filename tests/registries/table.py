"""The table of vendors and behaviors in docs/registries/README.md, made from a run."""

from collections.abc import Mapping
from pathlib import Path

from tests.registries.server import Behavior
from tests.registries.survey import Direction, Finding, expected, is_as_expected
from tests.registries.vendor import Vendor
from tests.registries.vendors.all_vendors import VENDORS

PAGE = Path(__file__).parents[2] / "docs/registries/README.md"
_BEGIN = "<!-- The rest of this page is written by `python -m tests.registries`. -->"

Findings = Mapping[tuple[str, Direction], Finding]
"""The findings by a vendor's name and the direction."""


def page_with(findings: Findings, page: str) -> str:
    """Return the page with its tables replaced by those of these findings."""
    head, _, _ = page.partition(_BEGIN)
    return f"{head}{_BEGIN}\n\n{render(findings)}"


def render(findings: Findings) -> str:
    """Return both tables in Markdown."""
    images = ["| registry | as a source | as a target |", "|---|---|---|"]
    images += [_row(_link(vendor), *(_images(vendor, one, findings) for one in Direction)) for vendor in VENDORS]
    behaviors = [
        "| registry | behavior | as a source | as a target | documented or reported in |",
        "|---|---|---|---|---|",
    ]
    behaviors += [
        _row(
            vendor.name, behavior.effect, *(_met(vendor, behavior, one, findings) for one in Direction), behavior.source
        )
        for vendor in VENDORS
        for behavior in vendor.behaviors
    ]
    return "\n".join(["## What is copied", "", *images, "", "## Behaviors", "", *behaviors, ""])


def _images(vendor: Vendor, direction: Direction, findings: Findings) -> str:
    outcomes = findings[vendor.name, direction].outcomes
    wanted = expected(vendor, direction)
    wrong = [name for name, outcome in outcomes.items() if not is_as_expected(outcome, wanted[name])]
    if wrong:
        return f"FAILS: {', '.join(wrong)}"
    if direction is Direction.SOURCE:
        return "everything"
    if vendor.refuses.push:
        return "nothing, since it accepts no pushes"
    refused = [name for name, is_so in vendor.refuses.by_name().items() if is_so]
    return f"everything; refused, with the reason: {', '.join(refused)}" if refused else "everything"


def _met(vendor: Vendor, behavior: Behavior, direction: Direction, findings: Findings) -> str:
    if behavior.avoided:
        return f"avoided: {behavior.avoided}"
    if behavior.name not in findings[vendor.name, direction].met:
        return "not met"
    if behavior.refuses:
        return "fails with the reason"
    return "nothing to copy" if vendor.refuses.push and direction is Direction.TARGET else "copied"


def _link(vendor: Vendor) -> str:
    return f"[{vendor.name}]({vendor.page}.md)"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"

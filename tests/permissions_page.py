"""Generate the table of permissions in `docs/security.md`: `python -m tests.permissions_page`."""

from collections.abc import Sequence
from pathlib import Path

from tests.support.permissions import DONE, ROLES, SHOWN, UseCase

PAGE = Path(__file__).parents[1] / "docs" / "security.md"
_MARK = "<!-- permissions: made by python -m tests.permissions_page -->\n"
_END = "<!-- end -->\n"


def written(page: str) -> str:
    """Return the page with its table up to date."""
    before, found, rest = page.partition(_MARK)
    assert found, f"docs/security.md has no line {_MARK!r}"
    return f"{before}{_MARK}{_legend()}\n{_table(SHOWN)}\n{_table(DONE)}{_END}{rest.partition(_END)[2]}"


def _legend() -> str:
    return "".join(f"- **{role}**: {meaning}\n" for role, meaning in ROLES.items())


def _table(cases: Sequence[UseCase]) -> str:
    head = f"| | {' | '.join(role.replace('repository-', 'repository ') for role in ROLES)} |\n"
    rows = [
        f"| {case.words} | {' | '.join('✓' if role in case.roles else '-' for role in ROLES)} |\n" for case in cases
    ]
    return f"{head}|---|{'---|' * len(ROLES)}\n{''.join(rows)}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")

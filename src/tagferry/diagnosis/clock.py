"""Compare the clock of this machine with the clocks of other machines."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tagferry.db.clock import TOLERANCE
from tagferry.diagnosis.model import Component, Finding, Findings

HARMFUL = timedelta(minutes=5)
"""A difference from which tokens and certificates are refused; signatures are from 15 minutes on."""
_SYNCHRONIZE = "synchronize it with a time server, for example with chrony, on both machines"


def check_clock(
    differences: Mapping[str, timedelta],
    files: Sequence[Path],
    *,
    recorded_at: datetime | None = None,
    now: datetime | None = None,
) -> list[Finding]:
    """Compare this machine's clock with others.

    If most of the others differ from it by about the same time, it is this machine's clock that is wrong.

    Args:
        differences: by the name of another clock, how far that is ahead of this machine's.
        files: files that this machine has written; they cannot be newer than the present.
        recorded_at: the last time that a server has recorded in the database by its own clock.
        now: this machine's time.
    """
    findings, now = Findings(Component.CLOCK), now or datetime.now(UTC)
    wrong = {name: ahead for name, ahead in differences.items() if abs(ahead) > TOLERANCE}
    alike = _largest_group(list(wrong.values()))
    if len(wrong) >= 2 and len(alike) * 2 > len(differences):
        typical = alike[len(alike) // 2]
        names = ", ".join(sorted(name for name, ahead in wrong.items() if ahead in alike))
        add = findings.problem if abs(typical) > HARMFUL else findings.warning
        add(
            f"the clock of this machine is {_span(typical)} {'slow' if typical > timedelta(0) else 'fast'}, "
            f"compared with {names}",
            "synchronize this machine with a time server, for example with chrony",
        )
        wrong = {name: ahead for name, ahead in wrong.items() if ahead not in alike}
    for name, ahead in wrong.items():
        add = findings.problem if abs(ahead) > HARMFUL else findings.warning
        order = "ahead of" if ahead > timedelta(0) else "behind"
        add(
            f"the clock of {name} is {_span(ahead)} {order} that of this machine",
            f"find out which is wrong; {_SYNCHRONIZE}",
        )
    for path, newer_by in _from_the_future(files, now):
        findings.problem(
            f'"{path}" was changed {_span(newer_by)} in the future, so the clock of this machine was set back',
            "synchronize this machine with a time server; nothing is deleted by its age until the clock is plausible",
        )
    if recorded_at is not None and recorded_at - now > TOLERANCE and findings.is_clean:
        findings.problem(
            f"a server has recorded a time that is {_span(recorded_at - now)} in the future: its clock is fast, or the "
            "clock of this machine is slow",
            "synchronize all machines with a time server; nothing is deleted by its age until the clock is plausible",
        )
    if findings.is_clean:
        compared = (
            f", compared with {', '.join(sorted(differences))}"
            if differences
            else "; there is no other to compare with"
        )
        findings.ok(f"the clock shows {now:%Y-%m-%d %H:%M} UTC{compared}")
    return findings.all


def _largest_group(differences: list[timedelta]) -> list[timedelta]:
    """Return the largest set of differences that are within the tolerance of one of them, in order."""
    groups = [[other for other in differences if abs(other - one) <= TOLERANCE] for one in differences]
    largest = max((len(group) for group in groups), default=0)
    return sorted(next((group for group in groups if len(group) == largest), []))


def _from_the_future(files: Sequence[Path], now: datetime) -> list[tuple[Path, timedelta]]:
    found = []
    for path in files:
        try:
            changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except (OSError, ValueError, OverflowError):
            continue
        if changed - now > TOLERANCE:
            found.append((path, changed - now))
    return found


def _span(difference: timedelta) -> str:
    seconds = abs(difference.total_seconds())
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"

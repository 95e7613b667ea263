"""Print the plan of a synchronization."""

from typing import Any

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from tagferry.cli.console import out
from tagferry.cli.lines import write_rewritten

_COLOURS = {"copy": "cyan", "up_to_date": "green", "existed": "yellow", "failed": "red"}


def show_plan(plans: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Print a line for each image, and the total number of bytes to copy.

    Args:
        plans: the repository, the target and the plan of each synchronization.
    """
    has_targets = len({target for _, target, _ in plans}) > 1
    table = Table(
        "image", *(["target"] if has_targets else []), "action", "to copy", "to mount", "present", "", box=None
    )
    for repository, target, plan in plans:
        for tag in plan["tags"]:
            table.add_row(
                Text(f"{repository}:{tag['tag']}"),
                *([target] if has_targets else []),
                f"[{_COLOURS.get(tag['action'], 'red')}]{tag['action'].replace('_', ' ')}",
                *(decimal(tag[name]) for name in ("bytesToCopy", "bytesToMount", "bytesPresent")),
                Text(tag["reason"]),
            )
    out.print(table)
    for repository, _, plan in plans:
        for tag in plan["tags"]:
            write_rewritten(out.file, f"{repository}:{tag['tag']}", tag.get("rewritten"))
    out.print(f"{decimal(sum(plan['bytesToCopy'] for _, _, plan in plans))} to copy; nothing was changed")

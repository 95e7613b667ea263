"""Print the plan of a synchronization."""

from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from tagferry.cli.lines import write_rewritten
from tagferry.names import Namespace, Repository

_COLOURS = {"copy": "cyan", "up_to_date": "green", "existed": "yellow", "failed": "red"}


def show_plan(plans: dict[tuple[Namespace, Repository], dict[str, Any]], console: Console) -> None:
    """Print a line for each image, and the total number of bytes to copy."""
    table = Table("image", "action", "to copy", "to mount", "present", "", box=None)
    for (namespace, repository), plan in plans.items():
        for tag in plan["tags"]:
            table.add_row(
                f"{namespace}/{repository}:{tag['tag']}",
                f"[{_COLOURS.get(tag['action'], 'red')}]{tag['action'].replace('_', ' ')}",
                *(decimal(tag[name]) for name in ("bytesToCopy", "bytesToMount", "bytesPresent")),
                tag["reason"],
            )
    console.print(table)
    for (namespace, repository), plan in plans.items():
        for tag in plan["tags"]:
            write_rewritten(console.file, f"{namespace}/{repository}:{tag['tag']}", tag.get("rewritten"))
    console.print(f"{decimal(sum(plan['bytesToCopy'] for plan in plans.values()))} to copy; nothing was changed")

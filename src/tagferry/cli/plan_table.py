"""Shows what a synchronization would do and cost."""

from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from tagferry.names import Namespace, Repository

_COLOURS = {"copy": "cyan", "in place": "green", "existed": "yellow", "failed": "red"}


def show_plan(plans: dict[tuple[Namespace, Repository], dict[str, Any]], console: Console) -> None:
    """Print a line for each image, and the sum of what must be sent."""
    table = Table("image", "action", "to move", "to mount", "there", "", box=None)
    for (namespace, repository), plan in plans.items():
        for tag in plan["tags"]:
            table.add_row(
                f"{namespace}/{repository}:{tag['tag']}",
                f"[{_COLOURS.get(tag['action'], 'red')}]{tag['action']}",
                *(decimal(tag[name]) for name in ("bytesToMove", "bytesToMount", "bytesPresent")),
                tag["reason"],
            )
    console.print(table)
    console.print(f"{decimal(sum(plan['bytesToMove'] for plan in plans.values()))} to move; nothing was changed")

"""Test every vendor's registry in both directions, and write the tables of docs/registries/README.md.

Run as `python -m tests.registries`.
"""

import asyncio

from tests.registries.survey import Direction, try_vendor
from tests.registries.table import PAGE, Findings, page_with
from tests.registries.vendors.all_vendors import VENDORS


async def _survey() -> Findings:
    return {(vendor.name, one): await try_vendor(vendor, one) for vendor in VENDORS for one in Direction}


if __name__ == "__main__":
    PAGE.write_text(page_with(asyncio.run(_survey()), PAGE.read_text("utf-8")), "utf-8")

"""Where organizations can be created, for several pages."""

from tagferry.names import RegionId
from tagferry.web.console.context import PageContext


def regions_for_creation(context: PageContext) -> list[RegionId]:
    """Return the regions in which the caller may create organizations."""
    access = context.services.access
    return [one.id for one in context.services.regions if access.may_create(context.caller, one.id)]

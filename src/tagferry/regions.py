"""The configured regions, each with its image store. A reload replaces them; look a region up whenever it is used."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tagferry.copy.rewrite import Acceptance
from tagferry.errors import NotFound
from tagferry.names import RegionId
from tagferry.oci.images import ImageStore


@dataclass(frozen=True, slots=True)
class Region:
    """A configured region.

    Attributes:
        url: the registry's URL, as clients use it.
        accepts: the content it accepts as the target of a synchronization.
    """

    id: RegionId
    url: str
    store: ImageStore
    accepts: Acceptance = field(default_factory=Acceptance)

    @property
    def registry_host(self) -> str:
        """The host part of the full names of its images."""
        return self.url.partition("://")[2]

    @property
    def is_plain(self) -> bool:
        """True if its registry has no TLS."""
        return self.url.startswith("http://")


class Regions:
    """The configured regions, by id."""

    def __init__(self, regions: Iterable[Region]) -> None:
        self._regions = {region.id: region for region in regions}

    def replace(self, regions: Iterable[Region]) -> None:
        """Replace all regions at once. A holder of a former region continues to use that."""
        self._regions = {region.id: region for region in regions}

    def __iter__(self) -> Iterator[Region]:
        return iter(self._regions.values())

    def __contains__(self, region: RegionId) -> bool:
        return region in self._regions

    def __getitem__(self, region: RegionId) -> Region:
        """Return the region of this id; raises NotFound."""
        try:
            return self._regions[region]
        except KeyError:
            raise NotFound("region", region, f"the known regions are {', '.join(self._regions)}") from None

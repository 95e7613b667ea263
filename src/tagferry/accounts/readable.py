"""The repositories that a caller may read."""

from collections.abc import Mapping
from dataclasses import dataclass

from tagferry.names import Namespace, RepositoryName


@dataclass(frozen=True, slots=True)
class ReadableRepositories:
    """The repositories that a caller may read in a region, with the names of the domains that own them.

    Attributes:
        organizations: the organizations that may be read as a whole, with their domains.
        repositories: further repositories, with their domains; empty if it exists only in an open region's registry.
        is_everything: whether the caller may also read everything else in the region's registry.
    """

    organizations: Mapping[str, str]
    repositories: Mapping[str, str]
    is_everything: bool = False

    def __contains__(self, name: RepositoryName) -> bool:
        return self.is_everything or name in self.repositories or name.unchecked_namespace in self.organizations

    @property
    def namespaces(self) -> frozenset[Namespace] | None:
        """The organizations that may contain readable repositories; None for all."""
        if self.is_everything:
            return None
        single = (name.partition("/")[0] for name in self.repositories)
        return frozenset(Namespace(name) for name in {*self.organizations, *single})

    def domain_of(self, name: RepositoryName) -> str:
        """Return the domain that owns a readable repository."""
        return self.organizations.get(name.unchecked_namespace) or self.repositories.get(name, "")

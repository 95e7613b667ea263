"""A vendor's registry as data: how it authenticates, its behaviors, and what it refuses."""

from dataclasses import dataclass, field, replace

from tests.registries.access import Access, Grants, grant_all
from tests.registries.server import Behavior, Registry


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """What a vendor's registry refuses as a target; each a pattern of the reason, empty if it is not refused.

    Attributes:
        push: every push.
        new_repository: a push to a repository that was not created before.
        replacement: another image under a tag that exists.
    """

    push: str = ""
    new_repository: str = ""
    replacement: str = ""

    def by_name(self) -> dict[str, str]:
        """Those that do not concern every push, by what is refused."""
        return {"a repository that was not created": self.new_repository, "replacing a tag": self.replacement}


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """A vendor's registry.

    Attributes:
        name: as people know it.
        page: the name of its page in docs/registries, without `.md`.
        access: how it authenticates.
        access_source: where that is documented.
        behaviors: in which it differs from a plain OCI 1.1 registry.
        repository: a repository, in the form that its names have there.
        refuses: what it does not do as a target.
        grants: which actions its token server grants, given the registry.
    """

    name: str
    page: str
    access: Access
    access_source: str
    behaviors: tuple[Behavior, ...]
    repository: str = "team/app"
    refuses: Refusals = field(default_factory=Refusals)
    grants: "GrantsOf | None" = None

    def registry(self, *, anonymous: bool = False) -> Registry:
        """A registry of this vendor, empty; `anonymous` makes its repositories public."""
        registry = Registry(replace(self.access, anonymous=anonymous), self.behaviors)
        registry.tokens.grants = self.grants.of(registry) if self.grants else grant_all
        return registry


@dataclass(frozen=True)
class GrantsOf:
    """Token servers grant what depends on which repositories exist.

    Attributes:
        absent: what is granted of the wanted actions in a repository that does not exist, for pushing and otherwise.
        withheld: actions that are never granted.
    """

    absent_with_push: bool = True
    absent_without_push: bool = True
    withheld: frozenset[str] = frozenset()

    def of(self, registry: Registry) -> Grants:
        """The grants of one registry."""

        def grants(repository: str, wanted: frozenset[str]) -> frozenset[str]:
            exists = registry.contents.find(repository) is not None
            is_allowed = exists or (self.absent_with_push if "push" in wanted else self.absent_without_push)
            return wanted - self.withheld if is_allowed else frozenset()

        return grants

"""A vendor's registry as data: its authentication, behaviors and refusals."""

from dataclasses import dataclass, field, replace

from tests.registries.access import Access, Grants, grant_all
from tests.registries.server import Behavior, Registry


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """The refusals of a vendor's registry as a target, each as a pattern of the reason; empty if it is not refused.

    Attributes:
        push: every push.
        new_repository: a push to a repository that was not created before.
        replacement: another image under an existing tag.
    """

    push: str = ""
    new_repository: str = ""
    replacement: str = ""

    def by_name(self) -> dict[str, str]:
        """Return the refusals other than that of every push, by description."""
        return {"a repository that was not created": self.new_repository, "replacing a tag": self.replacement}


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """A vendor's registry.

    Attributes:
        name: its common name.
        page: the name of its page in docs/registries, without `.md`.
        access: its authentication.
        access_source: the documentation of that.
        behaviors: its differences from a plain OCI 1.1 registry.
        repository: an example repository in the vendor's form.
        refuses: its refusals as a target.
        grants: the actions that its token server grants, for a registry.
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
        """Return an empty registry of this vendor; `anonymous` makes its repositories public."""
        registry = Registry(replace(self.access, anonymous=anonymous), self.behaviors)
        registry.tokens.grants = self.grants.of(registry) if self.grants else grant_all
        return registry


@dataclass(frozen=True)
class GrantsOf:
    """Grants of a token server that depend on which repositories exist.

    Attributes:
        absent: the granted actions in a repository that does not exist, for pushing and otherwise.
        withheld: actions that are never granted.
    """

    absent_with_push: bool = True
    absent_without_push: bool = True
    withheld: frozenset[str] = frozenset()

    def of(self, registry: Registry) -> Grants:
        """Return the grants of one registry."""

        def grants(repository: str, wanted: frozenset[str]) -> frozenset[str]:
            exists = registry.contents.find(repository) is not None
            is_allowed = exists or (self.absent_with_push if "push" in wanted else self.absent_without_push)
            return wanted - self.withheld if is_allowed else frozenset()

        return grants

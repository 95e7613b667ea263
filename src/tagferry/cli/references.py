"""References to repositories and organizations, as arguments and options of commands."""

from tagferry.errors import InvalidName
from tagferry.names import Namespace, RegionId, Repository


def parse_repository(text: str) -> tuple[Namespace, Repository]:
    """Parse `ORG/REPO`."""
    namespace, slash, repository = text.partition("/")
    if not slash:
        raise InvalidName("ORG/REPO", "must name an organization and a repository", text)
    if ":" in text or "@" in text:
        raise InvalidName("ORG/REPO", "must have no tag, no digest and no registry's address", text)
    return Namespace(namespace, field="ORG"), Repository(repository, field="REPO")


def parse_organization(text: str, *, field: str = "REGION/ORG") -> tuple[RegionId, Namespace]:
    """Parse `REGION/ORG`.

    Args:
        text: the reference.
        field: the argument or option, for errors.
    """
    region, slash, namespace = text.partition("/")
    if not slash:
        raise InvalidName(field, "must have the form REGION/ORG", text)
    return RegionId(region, field=field), Namespace(namespace, field=field)


def parse_target(text: str, *, field: str) -> tuple[str, str]:
    """Parse `REGION[/ORG]`; without an organization, the second part is empty."""
    region, slash, namespace = text.partition("/")
    return RegionId(region, field=field), Namespace(namespace, field=field) if slash else ""

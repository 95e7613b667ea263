"""References to repositories and organizations: errors name the argument or the option as it is typed."""

import pytest

from tagferry.cli.references import parse_organization, parse_repository, parse_target
from tagferry.errors import Invalid


def test_references_are_split_at_the_first_slash() -> None:
    assert parse_repository("team/shop/web") == ("team", "shop/web")
    assert parse_organization("cn-north-4/team") == ("cn-north-4", "team")
    assert parse_target("cn-north-4/team", field="--to") == ("cn-north-4", "team")
    assert parse_target("cn-north-4", field="--to") == ("cn-north-4", "")


def test_a_reference_without_its_second_part_is_refused() -> None:
    with pytest.raises(Invalid, match=r'^ORG/REPO must name an organization and a repository: got "web"$'):
        parse_repository("web")
    with pytest.raises(Invalid, match=r'^--to must have the form REGION/ORG: got "cn-north-4"$'):
        parse_organization("cn-north-4", field="--to")


@pytest.mark.parametrize("given", ["BAD!", "cn-north-4/", "/team", "cn-north-4/A"])
def test_an_invalid_target_is_refused_with_the_name_of_the_option(given: str) -> None:
    with pytest.raises(Invalid, match=r"^--to (must|may) "):
        parse_target(given, field="--to")


@pytest.mark.parametrize("given", ["team/app:v1", "127.0.0.1:5004/team/app", f"team/app@sha256:{'a' * 64}"])
def test_a_reference_as_docker_writes_it_is_refused_with_what_is_too_much(given: str) -> None:
    with pytest.raises(Invalid, match=r"^ORG/REPO must have no tag, no digest and no registry's address: got "):
        parse_repository(given)

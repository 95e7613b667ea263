"""`tagferry tags` and `tagferry locate`."""

import json

from tagferry.names import Tag
from tests.acceptance.test_cli_jobs import ferry, tagferry  # noqa: F401 - the fixture
from tests.support import images
from tests.support.deployment import NORTH, RELEASE, SOUTH, Deployment, name_in

APP = name_in("team")
OTHER = images.image(seed="other")


async def test_the_exit_code_says_whether_the_copies_are_in_sync(ferry: Deployment) -> None:  # noqa: F811
    await images.push(ferry.store(SOUTH), APP, images.image(), Tag("v1"))

    code, shown, _ = await tagferry(ferry, "tags", "team/app", "--compare")
    assert (code, shown.splitlines()[-1]) == (0, f"{SOUTH}/team: in sync")
    assert images.image().digest[:19] in shown

    await images.push(ferry.store(NORTH), APP, images.image(), Tag("v2"))
    await images.push(ferry.store(SOUTH), APP, OTHER, Tag("old"))
    code, shown, _ = await tagferry(ferry, "tags", "team/app", "--compare", "--differences")
    assert code == 3
    assert "v1" not in shown
    assert shown.splitlines()[-1] == f"{SOUTH}/team: behind, 1 missing, 1 extra"

    code, shown, _ = await tagferry(ferry, "tags", "team/app", "--compare", "--to", f"{SOUTH}/{RELEASE}", "--json")
    document = json.loads(shown)
    assert code == 3
    assert {tag["tag"]: tag["targets"][f"{SOUTH}/{RELEASE}"]["state"] for tag in document["tags"]} == {
        "v1": "missing",
        "v2": "missing",
    }

    code, _, said = await tagferry(ferry, "tags", "team/app", "--compare", "--to", "nowhere")
    assert (code, said.startswith("error: --to: "), "nowhere" in said) == (2, True, True)
    code, _, said = await tagferry(ferry, "tags", "team/app", "--to", SOUTH)
    assert (code, said) == (2, "error: --to: is for comparisons; add --compare\n")


async def test_tags_are_listed_without_a_comparison(ferry: Deployment) -> None:  # noqa: F811
    code, shown, _ = await tagferry(ferry, "tags", "team/app")

    assert code == 0
    assert images.image().digest[:19] in shown
    code, shown, _ = await tagferry(ferry, "tags", "team/app", "--tag", "nothing", "--json")
    assert (code, json.loads(shown)) == (0, [])


async def test_an_image_is_located_by_its_digest(ferry: Deployment) -> None:  # noqa: F811
    code, shown, _ = await tagferry(ferry, "locate", images.image().digest)

    assert (code, shown) == (0, f"{NORTH}/team/app\n")
    code, shown, _ = await tagferry(ferry, "locate", OTHER.digest)
    assert (code, shown) == (1, "")

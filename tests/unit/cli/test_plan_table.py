import io

from rich.console import Console

from tagferry.cli.plan_table import show_rewritten


def shown(rewritten: dict[str, object] | None) -> list[str]:
    console = Console(file=io.StringIO(), width=40)
    show_rewritten("team/app:v1", rewritten, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_bit_identical_image_prints_nothing():
    assert shown(None) == []


def test_every_changed_digest_and_every_omitted_artifact_has_a_line():
    old, new, left = (f"sha256:{letter * 64}" for letter in "abc")

    assert shown({"digests": {old: new}, "leftBehind": [left]}) == [
        f"team/app:v1  {old} becomes {new}",
        f"team/app:v1  {left} is not copied",
    ]

import io

from tagferry.cli.lines import write_rewritten


def shown(rewritten: dict[str, object] | None) -> list[str]:
    stream = io.StringIO()
    write_rewritten(stream, "team/app:v1", rewritten)
    return stream.getvalue().splitlines()


def test_a_bit_identical_image_prints_nothing():
    assert shown(None) == []


def test_every_changed_digest_and_every_omitted_artifact_has_a_line():
    old, new, left = (f"sha256:{letter * 64}" for letter in "abc")

    assert shown({"digests": {old: new}, "leftBehind": [left]}) == [
        f"team/app:v1  {old} becomes {new}",
        f"team/app:v1  {left} is not copied",
    ]

"""The picture of a trace has a row for each span, below the one that it is a part of."""

import re
from xml.etree import ElementTree

from tests.support.trace_collector import CollectedSpan
from tools.trace_picture import PICTURE, draw

SVG = "{http://www.w3.org/2000/svg}"


def span(name: str, one: str, parent: str, begin: float, end: float, **more: object) -> CollectedSpan:
    fields: dict[str, object] = {"kind": "INTERNAL", "attributes": {}, "error": None, "process": "worker:2"}
    return CollectedSpan(name, "t", one, parent, begin=begin, end=end, **fields | more)  # type: ignore[arg-type]


SPANS = [
    span("write tag", "5", "3", 1.04, 1.06),
    span("queue", "2", "1", 1.01, 1.02),
    span(
        *("PUT", "6", "5", 1.045, 1.055),
        kind="CLIENT",
        attributes={"tagferry.registry": "south", "url.path": "/v2/a<b/manifests/v1"},
    ),
    span("sync job", "3", "1", 1.02, 1.07, attributes={"tagferry.tag": "v1", "tagferry.status": "success"}),
    span("blob", "4", "3", 1.03, 1.04, attributes={"tagferry.outcome": "mounted"}),
    span("POST synchronize images", "1", "", 1.0, 1.1, kind="SERVER", process="serve:1"),
]


def test_rows_are_in_the_order_of_time_below_their_parents():
    picture = ElementTree.fromstring(draw(SPANS))  # noqa: S314

    labels = [(text.text, text.get("x")) for text in picture.iter(f"{SVG}text") if not text.get("class")]
    assert labels == [
        ("POST synchronize images", "0"),
        ("queue", "14"),
        ("sync job: v1, success", "14"),
        ("blob: mounted", "28"),
        ("write tag", "28"),
        ("PUT manifests at south", "42"),
    ]
    bars = [bar.get("class") for bar in picture.iter(f"{SVG}rect")][4:]
    assert bars == ["serve", "queue", "worker", "worker", "worker", "worker client"]


def test_the_picture_of_the_documentation_is_drawn_by_this_script():
    picture = PICTURE.read_text("utf-8")
    labels = re.findall(r'<text x="\d+" y="\d+">([^<]+)</text>', picture)

    assert labels[0] == "POST synchronize images"
    for step in ("preflight", "record jobs", "queue", "plan", "blob: uploaded", "blob: mounted", "verify", "write tag"):
        assert step in labels
    assert any(label.startswith("sync job: ") for label in labels)
    ElementTree.fromstring(picture)  # noqa: S314

"""Unknown fields of a body are found at any depth, and named in few and plain characters."""

from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field

from tagferry import bounds
from tagferry.web.items import Items
from tagferry.web.unknown_fields import unknown_fields


class Leaf(BaseModel):
    name: str


class Branch(BaseModel):
    leaves: Items[Leaf] = []
    leaf: Annotated[Leaf | None, BeforeValidator(lambda value: value)] = None
    renamed: int = Field(0, alias="otherName")
    choice: int = Field(0, validation_alias=AliasChoices("first", AliasPath("second", "inner")))
    anything: dict[str, Any] = {}
    any_value: Any = None


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


@pytest.mark.parametrize(
    ("document", "unknown"),
    [
        ({}, []),
        ({"leaves": [{"name": "a"}], "leaf": None, "otherName": 1, "first": 1, "second": {"inner": 1}}, []),
        ({"anything": {"x": {"y": 1}}, "any_value": [{"x": 1}]}, []),
        ({"Leaves": [], "renamed": 1, "choice": 1}, ["Leaves", "renamed", "choice"]),
        ({"leaves": [{"name": "a"}, {"nmae": "b"}]}, ["leaves[1].nmae"]),
        ({"leaf": {"name": "a", "size": 1}, "x": 1}, ["leaf.size", "x"]),
        ({"leaves": {"name": "a"}, "leaf": [1, "text"], "otherName": {"x": 1}}, []),
        ("text", []),
        (None, []),
    ],
)
def test_fields_that_no_model_has_are_named_with_their_path(document: Any, unknown: list[str]):
    assert unknown_fields(Branch, document) == unknown


def test_a_list_is_searched_in_all_its_elements():
    assert unknown_fields(list[Leaf], [{"name": "a"}, {"x": 1}]) == ["body[1].x"]
    assert unknown_fields(list[str], [{"x": 1}]) == []


def test_a_value_of_one_of_several_models_may_have_the_fields_of_each():
    assert unknown_fields(Leaf | Branch, {"name": "a", "leaf": {"x": 1}, "y": 1}) == ["leaf.x", "y"]


def test_names_of_clients_are_shortened_and_cleaned():
    names = ["", "a" * 200, 'a\r\nSet-Cookie: b="c", d', "ключ", "OS-TRUST:trust"]

    assert unknown_fields(Leaf, dict.fromkeys(names)) == [
        "?",
        "a" * 64,
        "a??Set-Cookie:?b??c???d",
        "????",
        "OS-TRUST:trust",
    ]


def test_only_so_many_are_named():
    many = {f"x{number}": 1 for number in range(1000)}

    for document in (many, {"leaves": [many] * 1000}, {"leaves": [{"x": 1}] * 1000}):
        found = unknown_fields(Branch, document)
        assert len(found) == bounds.UNKNOWN_FIELDS_REPORTED + 1
        assert found[-1] == "..."


def test_a_model_that_allows_further_fields_has_no_unknown_ones():
    assert unknown_fields(Open, {"x": {"y": 1}}) == []

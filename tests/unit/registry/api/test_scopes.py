"""Scopes of tokens."""

import pytest

from tagferry.names import RepositoryName
from tagferry.registry.api.access import CATALOG, Action, InvalidTokenRequest, Scope

APP = RepositoryName("org/app")


@pytest.mark.parametrize(
    ("text", "kind", "name", "actions"),
    [
        ("repository:org/app:pull", "repository", "org/app", {"pull"}),
        ("repository:org/app:push,pull,pull", "repository", "org/app", {"pull", "push"}),
        ("repository:host:5000/org/app:*", "repository", "host:5000/org/app", {"*"}),
        ("repository(plugin):org/app:pull", "repository(plugin)", "org/app", {"pull"}),
        ("registry:catalog:*", "registry", "catalog", {"*"}),
    ],
)
def test_a_scope_is_parsed(text: str, kind: str, name: str, actions: set[str]):
    assert Scope.parse(text) == Scope(kind, name, frozenset(actions))


@pytest.mark.parametrize(
    "text", ["", ":", "::", "repository", "repository:org/app", "repository::pull", ":a:pull", "a:b:"]
)
def test_an_invalid_scope_is_refused(text: str):
    with pytest.raises(InvalidTokenRequest, match="scope must have the form type:name:action,action"):
        Scope.parse(text)


def test_a_scope_has_one_text_form():
    assert str(Scope.parse("repository:org/app:push,fly,delete,pull,*")) == "repository:org/app:pull,push,delete,*,fly"
    assert str(Scope.of(APP, set(Action))) == "repository:org/app:pull,push,delete"
    assert Scope.parse(str(CATALOG)) == CATALOG


@pytest.mark.parametrize(
    ("text", "here"),
    [
        ("repository:org/app:pull,fly", "repository:org/app:pull"),
        ("repository:org/app:*", "repository:org/app:*"),
        ("repository:org/app:fly", None),
        ("repository:Org/App:pull", None),
        ("repository(plugin):org/app:pull", None),
        ("registry:catalog:*", "registry:catalog:*"),
        ("registry:catalog:pull", None),
        ("registry:other:*", None),
    ],
)
def test_the_unsupported_part_of_a_scope_is_dropped(text: str, here: str | None):
    found = Scope.parse(text).supported()
    assert (found and str(found)) == here


def test_a_scope_covers_fewer_actions_of_the_same_resource():
    needed = Scope.of(APP, {Action.PUSH})
    for text in ("repository:org/app:push", "repository:org/app:pull,push", "repository:org/app:*"):
        assert Scope.parse(text).covers(needed)
    for text in ("repository:org/app:pull", "repository:org/other:push", "registry:org/app:*"):
        assert not Scope.parse(text).covers(needed)

"""A source and a target in memory."""

import pytest

from tests.unit.copy.stores import ScriptedStore


@pytest.fixture
def source() -> ScriptedStore:
    return ScriptedStore("source")


@pytest.fixture
def target() -> ScriptedStore:
    return ScriptedStore("target")

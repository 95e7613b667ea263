from pathlib import Path

import pytest

from tests.fuzzing.parsers.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
INPUTS = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


def test_every_target_has_a_corpus_and_every_corpus_a_target():
    assert {path.parent.name for path in INPUTS} == set(TARGETS)


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_parser_takes_or_refuses_each_input_of_its_corpus(path: Path):
    TARGETS[path.parent.name](path.read_bytes())

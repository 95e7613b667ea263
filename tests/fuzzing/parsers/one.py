"""`python -m tests.fuzzing.parsers.one NAME …`: fuzz one target with atheris; further arguments go to libFuzzer."""

import sys

import atheris

with atheris.instrument_imports(include=["tagferry"]):
    from tests.fuzzing.parsers.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()

"""The benchmarks: tagferry beside its peers, on the same work, against real registries, in the same run."""

import os

# pip compiles what it installs. Where the environment forbids Python to do so, each start would compile all modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

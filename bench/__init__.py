"""The benchmarks: tagferry and its peers, on the same workload, against real registries, in the same run."""

import os

# pip compiles the packages that it installs. If bytecode is disabled, each start would compile all modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

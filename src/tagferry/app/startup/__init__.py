"""The checks before a process reports that it is ready, which `--check` runs, too.

Each check returns problems: a sentence that names the region, the setting and the file, and what to do. `site` runs
them all.
"""

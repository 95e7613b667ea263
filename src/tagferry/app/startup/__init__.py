"""What is checked before a process says that it is ready, and by `--check`.

Each check returns problems: a sentence that names the region, the setting and the file, and what to do. `site` runs
them all.
"""

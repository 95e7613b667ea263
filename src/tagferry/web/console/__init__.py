"""The console: pages for browsers at the address of each served region, below `/console/`.

A page is rendered by the server, from a frozen dataclass by a template; scripts add only comfort. The console uses the
services of the APIs, under the same permissions. `docs/console.md` documents its design, and how to add a page.
"""

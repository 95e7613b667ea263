"""Run the command line with `python -m tagferry`."""

from tagferry.cli import program

program()

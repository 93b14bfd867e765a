"""``python -m oomol_connect_sdk``: the command line."""

from .cli import main

main()

"""``python -m headrace`` is the command ``headrace``."""

from headrace.app.cli import main

main()

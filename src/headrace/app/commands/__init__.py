"""One file per command of the CLI, imported when it is called."""

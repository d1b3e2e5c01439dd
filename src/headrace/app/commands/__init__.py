"""The commands of the CLI, one file each. Each file has a function `register` that adds its command."""

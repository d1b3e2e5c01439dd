"""A project: its settings, its definitions, and the template of a new one."""

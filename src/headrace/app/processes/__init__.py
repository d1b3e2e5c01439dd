"""The processes of a project, from its settings."""

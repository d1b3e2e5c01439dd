"""A project's definitions, settings and template."""

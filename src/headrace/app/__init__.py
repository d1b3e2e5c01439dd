"""Composition root: CLI, project loading, settings, local services."""

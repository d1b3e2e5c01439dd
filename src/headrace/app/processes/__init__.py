"""Runs the processes of a project, made from its settings: worker, trainer, scorer, HTTP server."""

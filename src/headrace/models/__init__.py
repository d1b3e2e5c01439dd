"""Artifacts, registry, manifests and model events."""

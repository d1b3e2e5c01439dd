"""Deployments: definitions as data, plans, and the roll-out of new versions."""

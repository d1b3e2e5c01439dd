"""Compares served vectors with the event log."""

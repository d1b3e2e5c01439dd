"""Comparing what was served with the event log."""

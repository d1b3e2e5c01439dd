"""Brings events from outside to the topic of a stream."""

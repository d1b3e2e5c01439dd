"""Rejected records: finding them and sending them again."""

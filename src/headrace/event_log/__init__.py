"""The event log: one Delta table for each stream, the truth and the only restart point."""

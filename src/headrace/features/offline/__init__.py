"""Point-in-time features from the event log."""

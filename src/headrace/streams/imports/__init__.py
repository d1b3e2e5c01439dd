"""History from files into the event log."""

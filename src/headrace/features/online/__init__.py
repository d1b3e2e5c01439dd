"""The online store: a port, its in-memory double, and what look-ups read."""

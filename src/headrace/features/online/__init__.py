"""The online store: a port, its in-memory double, and the reading of fields for look-ups."""

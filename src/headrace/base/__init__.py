"""Times and clocks, waiting for a store, redaction: used by every room."""

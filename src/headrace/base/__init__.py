"""What belongs to no room: times and clocks, waiting for a store, redaction."""

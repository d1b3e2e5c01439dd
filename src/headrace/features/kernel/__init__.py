"""What computes: rows to partial aggregates, partial aggregates to values."""

"""The computation: from rows to partial aggregates, and from these to values."""

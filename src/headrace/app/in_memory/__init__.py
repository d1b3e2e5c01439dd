"""Features of rows that are given, computed in memory: no Kafka, no Redis, no event log."""

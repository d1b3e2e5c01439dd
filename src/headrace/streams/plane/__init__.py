"""The data plane: exactly once from Kafka to Redis and the event log."""

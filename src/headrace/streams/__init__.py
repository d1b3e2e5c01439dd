"""The worker: from Kafka to Redis and Parquet, exactly once."""

"""From Kafka to Redis and the event log, exactly once. Begin with ``plane_loop.py`` and ``partitions.py``."""

"""Real Kafka and Valkey on this machine, from Python packages alone."""

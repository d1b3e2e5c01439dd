"""Runs a real Kafka and a real Valkey on this machine, from Python packages alone."""

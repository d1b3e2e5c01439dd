"""Kafka: records, codecs, topics, producer, batch consumer, dead letters, CloudEvents."""

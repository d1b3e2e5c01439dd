"""What is remembered: definitions, the tile kernel, online store, offline store, point in time."""

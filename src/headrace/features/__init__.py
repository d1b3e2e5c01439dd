"""Features: their definitions, the tile kernel, the online store, and values at a point in time."""

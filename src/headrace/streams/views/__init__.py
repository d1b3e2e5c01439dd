"""The views in a worker's memory: rows are folded into tiles, and tiles are written as fields."""

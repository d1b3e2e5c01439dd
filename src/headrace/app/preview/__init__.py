"""Features of given rows over time: as a table, a chart, and a frame."""

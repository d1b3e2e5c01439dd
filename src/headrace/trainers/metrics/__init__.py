"""Metrics of scored rows, and their bounds from resampled blocks of rows."""

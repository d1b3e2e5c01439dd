"""Triggers and drift, training runner, gate and publisher."""

"""The live page: one process reads the control topics, and sends one snapshot a second to all viewers."""

"""Training runs: fit, gate, register, reproduce."""

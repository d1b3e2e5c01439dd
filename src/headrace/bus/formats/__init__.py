"""How the events of a stream are written in its records."""

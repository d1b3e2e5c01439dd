"""The demo: half a year of real flights through the whole loop, on real parts, in minutes."""

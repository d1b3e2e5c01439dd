"""The demo: replays half a year of real flights through the whole loop in minutes."""

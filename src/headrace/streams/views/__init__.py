"""What a worker remembers of its views."""

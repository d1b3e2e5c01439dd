"""What is learnt, and when."""

from trainers.delay import delay

__all__ = ["delay"]

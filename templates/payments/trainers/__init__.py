"""What is learnt, and when."""

from trainers.fraud import fraud

__all__ = ["fraud"]

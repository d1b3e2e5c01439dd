"""The model, and the rules that say when it is trained again."""

from trainers.fraud import fraud

__all__ = ["fraud"]

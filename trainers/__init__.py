"""The models of the reference system."""

from trainers.delay import delay

__all__ = ["delay"]

"""More models of the reference system: other questions about the same flights."""

from more_trainers.delay_class import delay_class
from more_trainers.delay_minutes import delay_minutes
from more_trainers.delay_range import delay_range

__all__ = ["delay_class", "delay_minutes", "delay_range"]

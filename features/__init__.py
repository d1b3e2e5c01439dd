"""What is remembered."""

from features.services import delay_features

__all__ = ["delay_features"]

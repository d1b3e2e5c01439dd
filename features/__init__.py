"""The features of the reference system."""

from features.services import delay_features

__all__ = ["delay_features"]

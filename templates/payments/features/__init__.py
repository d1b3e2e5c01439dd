"""The features of cards and merchants."""

from features.views import card_risk

__all__ = ["card_risk"]

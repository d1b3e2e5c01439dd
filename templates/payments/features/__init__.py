"""The features of cards, devices and merchants."""

from features.views import card_risk

__all__ = ["card_risk"]

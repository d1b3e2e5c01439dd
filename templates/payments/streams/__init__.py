"""What arrives: requests, payments, their refunds, and how they ended."""

from streams.payments import authorisations, payments, refunds, settlements

__all__ = ["authorisations", "payments", "refunds", "settlements"]

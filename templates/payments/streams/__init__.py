"""What arrives: requests, payments, their refunds, how they ended, and the table of merchants."""

from streams.payments import authorisations, merchants, payments, refunds, settlements

__all__ = ["authorisations", "merchants", "payments", "refunds", "settlements"]

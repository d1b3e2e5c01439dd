"""Other engines on the same topic and window; run by an interpreter that has them, without headrace."""

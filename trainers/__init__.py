"""What is learnt, and when."""

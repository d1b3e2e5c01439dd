"""What the crash tests share: workers that die, faults, and the comparison with a naive fold."""

"""What tests share: scenes, doubles, oracles. No tests."""

"""How fast headrace is: ratios against a floor or a peer in the same run, never timed tests."""

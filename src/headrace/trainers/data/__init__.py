"""What models learn from: spines, labels, training sets, exclusions."""

"""The data that models learn from: requests, labels, training sets, exclusions, profiles."""

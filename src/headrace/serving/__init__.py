"""For applications: feature client, model subscriber, predictor, prediction log."""

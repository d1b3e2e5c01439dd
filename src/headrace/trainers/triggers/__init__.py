"""Pure rules that decide when to retrain."""

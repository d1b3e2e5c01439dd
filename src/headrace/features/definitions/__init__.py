"""The definitions that users write: entities, feature views, feature services, aggregates, windows and expressions."""

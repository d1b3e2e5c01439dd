"""The flow graph: topics, views, services, models and applications, and how they are drawn."""

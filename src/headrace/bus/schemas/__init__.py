"""Schemas of records that a schema registry keeps."""

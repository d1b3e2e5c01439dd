"""Runs functions of the user on the events of a stream, and writes what they give to other streams."""

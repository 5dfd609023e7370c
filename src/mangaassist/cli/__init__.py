"""Thin commands: read arguments, call the lifecycle, print a table or JSON."""

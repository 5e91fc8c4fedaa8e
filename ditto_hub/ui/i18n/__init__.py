"""The visitor's language."""

"""Demonstrations: reading them from files, checking them, advice on them."""

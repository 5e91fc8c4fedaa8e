"""The run folder: its record, its files, its progress, the records of results."""

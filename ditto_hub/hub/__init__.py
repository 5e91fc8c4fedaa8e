"""The Hub: its client, base models' files, kept runs, publishing, Spaces."""

"""A Space of one's own: its folder, deploying it."""

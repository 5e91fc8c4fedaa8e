"""The paper: Algorithm 1, its losses, its state and its rivals."""

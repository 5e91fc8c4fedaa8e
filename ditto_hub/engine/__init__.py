"""Tokens through a model: sampling, scoring, gradients, weights. Knows nothing of DITTO."""

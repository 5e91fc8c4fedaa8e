"""Publishing an adapter: bundle, card, commit, load-back, receipt."""

"""Comparing methods: judges, win rates, trials, reports, guidance."""

"""Datasets to batches: one parser a format, mixtures, the one tokenising site, the collator, and tools to look at them."""

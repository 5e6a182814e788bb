"""Datasets to batches: formats, mixtures, the one tokenising site, the collator, and views."""

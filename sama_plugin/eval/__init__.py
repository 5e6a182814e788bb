"""Measures and runs: J and F, tubes, answers, and the scores of a model on a set of cases."""

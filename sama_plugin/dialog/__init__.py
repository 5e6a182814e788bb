"""Words: the canonical Sample, special tokens, chat templates, where slots are, and reading answers back."""

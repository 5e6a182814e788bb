"""Words: the canonical Sample, tokens, chat templates, where slots are, reading answers."""

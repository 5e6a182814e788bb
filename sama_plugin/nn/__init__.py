"""Small trainable modules, one noun a file: region, qformer, aggregator, seg, losses, rows.

They take sizes and sub-modules, never configs; know no host, tokenizer or file; and accept length-0
input everywhere, because a rank without work must meet the same modules as the others.
"""

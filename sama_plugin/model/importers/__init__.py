"""Bring weights in, in whatever layout they were published, and account for every one of them.

`shards` reads and writes checkpoints a shard at a time; `rules` turns a table of names into a plan
that is checked before anything is written; one file per published layout holds its table
(`internvl`, `qwen_vl`, `sama`, `sam2`, `qformer`, `videorefer`); `description` copies tokenizer and
template (`spm_tokenizer` makes a fast one of InternLM2's); `bring` finds out which layout a folder
has and runs the plan. Used by `sama import`.
"""

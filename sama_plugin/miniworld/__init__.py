"""The mini world: a small complete twin of the real thing, for the demo, the tests and the docs.

`world` samples clips and `render` draws them with their masks; `chat`, `expressions` and
`dialogues` talk about them; `write` stores them in the real dataset formats and `cases` asks
models on held-out clips.
"""

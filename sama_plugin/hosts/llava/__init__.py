"""The LLaVA family in transformers: `Llava`, `LlavaNextVideo`, `LlavaOnevision`."""

"""Plain `transformers.Trainer` scripts that load a native InternVL."""

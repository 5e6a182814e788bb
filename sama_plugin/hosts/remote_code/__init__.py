"""Checkpoints that bring their own model code (`trust_remote_code`)."""

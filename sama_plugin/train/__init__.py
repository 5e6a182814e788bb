"""Fine-tuning: configuration, the thin Trainer, checkpoints that survive interruption, and the run
itself."""

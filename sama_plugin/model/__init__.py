"""Attaching to a host: configuration, the four taps, the trainable modules, generation and
checkpoints.
"""

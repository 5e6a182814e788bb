"""The segmenter behind [SEG]: a protocol, the SAM2 backend, one feature store a video, our
propagation loop.
"""

"""Pixels and time: videos, frame plans, masks, region prompts and mask tracks.

Units everywhere: a frame is an index in the source's display order, a time is the seconds of its
timestamp, a box is [x0, y0, x1, y1) and a point (x, y) in float pixels of the upright frame, a mask
is bool (H, W) or an RLE.
"""

"""Transformers-native InternVL (`InternVLForConditionalGeneration`), transformers 4.55 and
later.
"""

"""Host adapters: one folder a host family, found by looking at the model, never by version
numbers.
"""

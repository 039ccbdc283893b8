"""Weights become pictures."""

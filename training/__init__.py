"""Shards become weights: one loop, two trainers."""

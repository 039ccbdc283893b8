"""Curated photos become identity-grouped WebDataset shards, and shards become training batches."""

"""Definitions of gallery sites, one TOML file a site."""

"""The networks of the BoLID method and the registry of everyone else's."""

"""Gallery sites become original photos on disk, one identity a set; every address has a state and a reason."""

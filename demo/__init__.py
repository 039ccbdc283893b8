"""A world without weights or internet: procedural people, a gallery site on loopback, the whole road over it."""

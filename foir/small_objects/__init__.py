"""Small objects: detection, crops at native resolution, and multi-object attention optimisation (MaO)."""

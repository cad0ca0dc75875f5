"""One vector for a picture that stands for all its objects, however small (MaO, arXiv 2503.07038)."""

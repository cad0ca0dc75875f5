"""Training of `mini`: data, losses and trainers."""

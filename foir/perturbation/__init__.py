"""Query perturbation: its mathematics, views of models with perturbed queries, and beam search."""

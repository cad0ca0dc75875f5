"""Query perturbation: its maths, views of models whose queries are perturbed, beam search."""

"""Whether a model is what it should be: fidelity to what was published, and how well it answers."""

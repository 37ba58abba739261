"""Pages about runs: what a model is good at, drawn and in words, as one HTML file that needs nothing else."""

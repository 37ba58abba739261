"""What a training step does to each branch of a model, forward and backward: one file a kind of branch."""

"""What a training step does to each half of a model, written out: forward and backward, one file a kind of half."""

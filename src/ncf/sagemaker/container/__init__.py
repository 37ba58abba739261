"""What runs inside the container: training, serving, the steps of a pipeline."""

"""Training on several processes or machines, and tables sharded over them."""

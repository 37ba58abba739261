"""Training on several processes or machines, and tables sharded among them."""

"""Part of the double of Amazon's library: see torch_smddp.py."""

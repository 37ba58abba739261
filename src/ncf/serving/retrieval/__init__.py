"""Candidates for large catalogues, re-ranked by the full model."""

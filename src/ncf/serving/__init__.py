"""Serving: the artifact and the recommender that speaks the caller's ids."""

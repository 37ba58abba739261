"""Neural collaborative filtering: from a table of interactions to recommendations."""

"""Models and baselines, tuned with the same budget, evaluated by the same rules, and compared by tests."""

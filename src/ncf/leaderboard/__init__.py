"""The leaderboard: models and baselines, tuned with the same budget, judged by the same rules, compared by tests."""

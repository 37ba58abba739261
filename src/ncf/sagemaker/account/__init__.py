"""The account around the jobs: what exists, what it costs, permissions, checks, clean-up."""

"""Runs that go on from earlier ones: the final fit of a judged run, and warm starts on newer data."""

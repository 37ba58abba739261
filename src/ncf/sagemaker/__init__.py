"""Amazon SageMaker, hosted or local. Only the command line knows it; README.md shows the way."""

"""`python -m ncf` is `ncf`."""

from ncf.cli import main

main()

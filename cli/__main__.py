"""`python -m cli` is the `alpaca` command."""

from cli.main import main

main(prog_name="alpaca")

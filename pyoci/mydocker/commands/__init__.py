"""One module per command; cli.py has the table."""

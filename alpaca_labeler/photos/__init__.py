"""Photos: which files are photos, what is in them, and their pixels. Never a model or a table."""

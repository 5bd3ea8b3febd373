"""The results table: rows in files and buckets, and the `alpaca manifest` commands."""

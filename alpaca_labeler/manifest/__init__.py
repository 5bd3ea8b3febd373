"""`alpaca manifest`: a table shown, counted, merged and converted."""

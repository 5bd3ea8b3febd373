"""`alpaca review`: a page on this machine, to look at labels and to correct them."""

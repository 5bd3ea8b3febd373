"""`alpaca label`: find photos, label them in worker processes, write the manifest."""

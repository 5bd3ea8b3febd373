"""From references to rows: fetch, decode, classify. The one room above photos, model and table."""

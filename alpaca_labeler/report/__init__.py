"""Pages for people: of a manifest, and of a trained model."""

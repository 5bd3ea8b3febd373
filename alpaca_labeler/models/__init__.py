"""Commands that train, measure, compare and publish models."""

"""The function: what AWS calls, and nothing else. The library that it imports is alpaca_labeler."""

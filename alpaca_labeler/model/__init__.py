"""The model: its bundle, the one in use, and what it says of pixels."""

"""API keys, and the gate that requires them."""

"""Who calls: API keys and the gate that asks for them."""

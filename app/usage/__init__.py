"""What a tenant uses of what it may, and the operator's say in that."""

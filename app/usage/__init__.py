"""A tenant's usage and limits, and the operator's control of them."""

"""The states of a tenant's things, as they change: one stream for everything that shows them."""

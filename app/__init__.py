"""The REST API. Never imports torch, diffusers or worker."""

"""Webhooks over HTTP: the deliveries of a job, and the secret that signs them."""

"""Webhooks over HTTP: what was sent to a job's receiver, and the secret that signs it."""

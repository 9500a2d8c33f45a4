"""The dashboard under /ui: pages rendered on the server, live parts by small scripts, no build step.

Browsers log in with an API key or a one-time link and hold a session cookie. What a page shows and changes by script,
it does over the public API with that session (docs/adr/0016-sessions-at-the-api.md).
"""

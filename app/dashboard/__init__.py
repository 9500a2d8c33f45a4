"""The dashboard under /ui: pages rendered on the server, live parts by small scripts, no build step.

Browsers log in with an API key or a one-time link and hold a session cookie; the JSON API never looks at it.
"""

"""The `atelier` command: the client, the single processes, and the tree that `atelier up` keeps alive."""

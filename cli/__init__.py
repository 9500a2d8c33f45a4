"""The `atelier` command: the commands of the client, and (in local/) what runs servers on this machine."""

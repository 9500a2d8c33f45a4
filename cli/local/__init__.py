"""What runs servers on this machine: `atelier up` and the single processes of a fleet."""

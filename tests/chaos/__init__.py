"""Breaking the service on purpose, and proving from what it left behind that no promise was broken."""

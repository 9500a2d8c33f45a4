"""What a base takes of a device's memory, traced when it is registered."""

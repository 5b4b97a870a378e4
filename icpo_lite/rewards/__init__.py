"""What a reply is, whether it is right, what it earns."""

"""Stand-ins for services: they speak the wire protocol, and the real client libraries connect to them."""

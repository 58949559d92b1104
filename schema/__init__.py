"""What the API, the agents and the database agree on: the wire, the lease, the tables."""

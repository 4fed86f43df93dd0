"""The sweep on a cluster: everything that knows Ray, and nothing that knows how circuits are found."""

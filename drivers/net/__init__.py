"""The network: addresses, listening sockets, transports, and who is ready."""

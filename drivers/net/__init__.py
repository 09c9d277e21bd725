"""The network: listening sockets, accepting, transports, the selector, and waking it."""

"""One file per way of doing I/O; each runs any handler on the pure core."""

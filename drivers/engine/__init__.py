"""The engine: reads requests and writes responses on every connection, on any host."""

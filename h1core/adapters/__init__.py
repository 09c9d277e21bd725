"""Translation of application interfaces into handlers; no I/O."""

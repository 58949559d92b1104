"""HTTP handlers, one file a resource: decode, call, encode."""

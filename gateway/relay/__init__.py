"""The shell of one request: ask failover what to do, do it, and hand the bytes on."""

"""PURE: bytes and JSON of the dialects. Nothing here opens, waits, logs or looks at a clock."""

"""HTTP in front: every route in one table, the checks before it, thin handlers behind it."""

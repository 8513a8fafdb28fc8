"""PURE: what one dialect says, said in another: one object for each attempt, without I/O."""

"""PURE: what an attempt came to, and what is tried next. Time and chance are passed in."""

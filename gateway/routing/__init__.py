"""PURE: from a model name to a rule, and the reasons."""

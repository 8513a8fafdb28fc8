"""The command `mlx-gateway`: one file per noun, the same output with and without a running daemon.

`main` finds the noun, `command` holds what all verbs share, `session` decides who answers, `output`
prints. Nothing is imported here, so that `serve` starts with nothing it doesn't need.
"""

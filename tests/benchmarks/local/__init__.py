"""The local engine beside mlx_lm.server: `python -m tests.benchmarks.local`, or `make bench-local`."""

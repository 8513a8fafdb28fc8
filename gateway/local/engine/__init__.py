"""The engine: one thread that owns every resident model, and the only importer of MLX."""

"""One base_url for every model a person uses: local MLX first, the cloud when local fails."""

__version__ = "0.1.0"

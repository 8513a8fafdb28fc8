"""`python -m gateway` is the same program as the `mlx-gateway` command."""

from gateway.cli.main import main

if __name__ == "__main__":
    main()

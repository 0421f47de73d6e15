"""Measurements: run them with ``python -m benchmarks`` from the repository; ``--help`` lists them."""

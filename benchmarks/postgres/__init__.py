"""What programs cost whose state lives in PostgreSQL: `python -m benchmarks.postgres --url postgresql://...`."""

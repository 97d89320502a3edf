"""Tasks run over items: ingest, batches, resume."""

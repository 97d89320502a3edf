"""Rows of CSV, JSONL, Parquet and XLSX files, with the place of every fault."""

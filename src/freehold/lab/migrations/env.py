"""Alembic's entry: run the revisions on the connection that the lab hands over."""

from __future__ import annotations

from alembic import context

from freehold.lab.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()

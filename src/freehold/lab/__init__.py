"""One directory: layout, settings, database, stores, migrations, doctor."""

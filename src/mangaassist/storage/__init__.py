"""Iceberg tables, the hash-chained ledger, the content-addressed artifact store, the durable write spool."""

"""The pages people read. Values in, HTML out; nothing is fetched from elsewhere."""

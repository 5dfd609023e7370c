"""Serving: the live pointer, the model server, the router, the prediction log, the HTTP surface."""

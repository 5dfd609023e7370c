"""A shop that does not exist: catalogue, shoppers, conversations, annotators and traffic, all seeded.

Only the catalogue is real. Every number that comes out of the rest describes this simulation and nothing
else; it is there to exercise the platform, never to claim real-world quality.
"""

"""Drift: frozen-bin sketches stored with a version, four detectors, history that outlives restarts."""

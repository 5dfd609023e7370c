"""The default text classifier: n-gram features, linear, calibrated, abstaining; no torch, no pickle."""

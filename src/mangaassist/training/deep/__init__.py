"""Training with gradients: checkpoints, bit-identical resume, one launch path; PyTorch is an extra."""

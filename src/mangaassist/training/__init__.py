"""From labelled examples to a model artifact: the step runner, splits, run tags, the text classifier."""

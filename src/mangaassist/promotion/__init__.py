"""The registry, the stages of a rollout, the controller that moves a version through them."""

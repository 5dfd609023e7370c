"""From a customer's letter to a quarter's choice, and back from what became of it to the next one."""

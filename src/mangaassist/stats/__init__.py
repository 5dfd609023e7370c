"""Array mathematics: intervals, tests, sequential bounds, agreement, divergences. numpy and scipy only."""

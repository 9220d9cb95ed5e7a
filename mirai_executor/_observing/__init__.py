"""How code hears of its tasks: reports while they run, and their ends, awaited or not."""

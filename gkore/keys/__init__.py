"""Private keys apart from code: a process that holds them, and certificates whose keys are there."""

"""Photos become verdicts: kept, rejected with a reason, or failed with an error; nothing is dropped without a row."""

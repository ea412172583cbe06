"""Which light network can do what: recurrences, memory, attention and hybrids on problems of one skill each."""

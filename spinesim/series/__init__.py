"""Cases from start to end: simulate, measure, write, and keep the record."""

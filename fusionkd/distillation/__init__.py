"""Terms that compare a student with its teachers."""

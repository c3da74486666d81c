"""What is shipped beside the code: the schema of the record."""

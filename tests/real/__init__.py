"""Files as people have them, from the file to the answer."""

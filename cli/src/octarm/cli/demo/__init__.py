"""The demo: real work on a folder of text files, on a stack of its own."""

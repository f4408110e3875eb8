"""From a folder of documents to pieces that memory can hold, each with the place it came from."""

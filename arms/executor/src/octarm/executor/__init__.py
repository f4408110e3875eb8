"""The arm that runs commands and Python snippets in a sandbox."""

"""How well memory finds what was asked for, on questions about this project's own documents."""

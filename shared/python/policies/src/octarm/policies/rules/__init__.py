"""YAML rule policies: ordered rules that compile to Starlark and obey the same limits."""

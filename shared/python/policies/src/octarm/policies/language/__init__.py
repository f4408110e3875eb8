"""The language of scripted policies: its helpers, how a source is compiled, checked and called."""

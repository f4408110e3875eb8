"""The arm that answers goals with a language model."""

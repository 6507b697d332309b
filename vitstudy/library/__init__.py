"""The study's methods for a model of one's own: `vitstudy.compress`, `load`, `list_methods`."""

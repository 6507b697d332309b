"""Tables, figures and the site, made from records alone."""

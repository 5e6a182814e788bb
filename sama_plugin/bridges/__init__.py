"""One folder a host script family: what is wrapped so that an unmodified script trains with the
plugin."""

"""Code of the add-on that does not need Kodi."""

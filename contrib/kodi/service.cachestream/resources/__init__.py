"""Parts of the add-on."""

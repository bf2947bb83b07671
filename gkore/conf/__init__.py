"""The configuration language and the site that it describes, as plain data."""

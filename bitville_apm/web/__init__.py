"""What people and programs see: the pages, and the JSON API over the same data."""

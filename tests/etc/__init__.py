"""The files of `etc/` do what they say."""

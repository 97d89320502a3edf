"""People, their keys and pseudonyms."""

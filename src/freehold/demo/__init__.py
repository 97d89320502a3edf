"""The whole loop on one labelled file, from a base model to a verified bundle."""

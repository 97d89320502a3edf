"""The verifier that is copied into every bundle, and the page that says what it reads."""

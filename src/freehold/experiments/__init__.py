"""Training and evaluation together: learning curves and assessments."""

"""Who may see what: sensitivity × zone → permit."""

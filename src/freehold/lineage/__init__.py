"""Walking the whole chain: trace and erase."""

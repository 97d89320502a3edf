"""The ledger: append, sequence, sign, prove and verify."""

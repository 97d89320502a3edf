"""Contracts, wording, predictors and decisions."""

"""Recipes, locks and runs: how a model is made from a dataset."""

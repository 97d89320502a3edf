"""Engines that execute a model."""

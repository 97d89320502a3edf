"""Intake, manifests, signatures and licences of models."""

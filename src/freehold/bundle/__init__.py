"""The exit kit: everything a team walks away with, verifiable without Freehold."""

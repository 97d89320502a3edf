"""Verdicts of people: import, queue, agreement, adjudication, labels."""

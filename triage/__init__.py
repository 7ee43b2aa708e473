"""The core of ticket-triage: what a ticket is, and how a message becomes one. It imports no other room."""

"""Drivers perform the actions of a conversation and feed it what came of them; they take a plan, never a class."""

"""Drivers: they perform the actions of a conversation and feed it what came of them. They take a plan, never a class."""

"""The picture as text that other programs draw, and as data."""

"""The picture as SVG, and as the PNG and PDF made of it: where everything goes, and every element by our own hand."""

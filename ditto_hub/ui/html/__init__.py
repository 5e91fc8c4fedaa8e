"""Records to HTML and SVG: pure, everything from outside escaped."""

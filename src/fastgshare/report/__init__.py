"""Pages and pictures: text in, one self-contained SVG or HTML text out. No clock, no plotting library."""

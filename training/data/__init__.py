"""What is heard: clips of any layout, their windows, and sounds of no class."""

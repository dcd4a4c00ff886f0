"""What comes in: labelled faces, prepared and checked."""

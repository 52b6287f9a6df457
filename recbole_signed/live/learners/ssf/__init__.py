"""What goes on learning with SSF, SSF-L and SSF-T from events, and chooses their settings on a stream."""

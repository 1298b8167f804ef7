"""What a network costs: its parameters and operations, and its time beside that of others."""

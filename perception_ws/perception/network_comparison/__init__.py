"""Networks beside each other: what they cost, how long they take and how well they see."""

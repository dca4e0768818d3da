"""What may a user rely on: public names, what happens before one goes away, and which folders can be read again."""

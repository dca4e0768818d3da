"""What runs within the sandbox: standard library only, for it is all that is there. Imports within it are relative."""

"""Code that runs inside the sandbox: standard library only, because nothing else is there. Imports are relative."""

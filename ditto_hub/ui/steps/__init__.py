"""The app's steps, a module each."""

"""The app in the browser: one module a step, `app.py` composes them."""

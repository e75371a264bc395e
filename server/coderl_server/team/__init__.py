"""The team server, `coderl serve`: many editors, one log. `app.create_app` joins the rooms of this package."""
